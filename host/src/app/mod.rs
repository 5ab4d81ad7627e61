//! Composition: builds every part from a checked configuration, wires them, reloads, shuts down.
