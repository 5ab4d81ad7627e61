//! Deciding how many instances there should be, and which job gets which slot.
