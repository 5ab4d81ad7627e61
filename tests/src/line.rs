//! One line of the manager's log, and the fields it ends with.

#[derive(Clone, Debug)]
pub struct Line(pub(crate) String);

impl Line {
    /// The value of `key=value`, without quotes. Only for values without a space.
    pub fn field(&self, key: &str) -> Option<&str> {
        let mut words = self.0.split_whitespace();
        let value = words.find_map(|word| word.strip_prefix(key)?.strip_prefix('='))?;
        Some(value.trim_matches('"'))
    }

    /// A field that is a number; the error shows the line.
    pub fn number(&self, key: &str) -> anyhow::Result<u32> {
        let number = self.field(key).and_then(|value| value.parse().ok());
        number.ok_or_else(|| anyhow::anyhow!("no number {key} in: {}", self.0))
    }
}

impl std::fmt::Display for Line {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}
