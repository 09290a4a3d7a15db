//! The engine of boxes: whether rules cover a region of flows, decided exactly by taking boxes away from boxes.
//!
//! [`subtract::cover`] is the one primitive, over an overlap [`index`] of a [`table`]: one view on one channel in one family.
//! "Left" comes with a flow that the reference evaluator confirms; "covered" comes with what covers, which Z3 confirms from the
//! model's sets ([`certify`]). What is too much for boxes is left to Z3 alone: no verdict is guessed.

pub(crate) mod axes;
pub mod certify;
mod clash;
pub(crate) mod cuboid;
mod dead;
pub mod extent;
pub(crate) mod index;
mod note;
mod pieces;
mod redundant;
pub mod sides;
pub(crate) mod subtract;
mod table;
mod unique;
pub mod view;
pub mod witness;

pub use subtract::Work;
