//! The helper: the frames it speaks with the manager, and the parts of its binary.

pub mod frame;
pub mod health;
pub mod mounts;
pub mod serve;
mod shell;
mod spool;
mod stage;

pub use frame::{Decoder, Frame, FrameError, FromHelper, Shell, StageOrder, Stream, ToHelper};
