//! What touches a live machine: generations installed on a node, compared with what its kernel has, and told about; and
//! the lab, a whole fabric in network namespaces of this machine.

pub mod audit;
mod command;
pub mod doctor;
pub mod ebpf;
mod error;
pub mod generation;
pub mod install;
pub mod lab;
mod memo;
mod retire;
pub mod state;
pub mod status;

pub use error::NodeError;
