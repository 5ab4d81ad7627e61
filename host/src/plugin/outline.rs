//! What a component imports and exports.

/// Names of interfaces, as the component's type has them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outline {
    pub imports: Vec<String>,
    pub exports: Vec<String>,
}
