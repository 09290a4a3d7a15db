pub mod encode;
pub mod solver;
pub mod terms;
