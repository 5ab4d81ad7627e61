//! What a component imports and exports, and which of its imports lead nowhere in the sandbox.

/// Names of interfaces, as the component's type has them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outline {
    pub imports: Vec<String>,
    pub exports: Vec<String>,
}

/// Offered because guests' runtimes import them, and empty.
const INERT: [(&str, &str); 4] = [
    ("wasi:filesystem/", "no file is open to it"),
    ("wasi:sockets/", "every socket and every look-up is refused"),
    ("wasi:cli/stdin@", "it is closed"),
    ("wasi:cli/terminal-", "there is no terminal"),
];

/// Why the import is inert; `None` for one that does something.
pub fn inert(import: &str) -> Option<&'static str> {
    let known = INERT.iter().find(|(prefix, _)| import.starts_with(prefix));
    known.map(|(_, why)| *why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_leads_nowhere_is_inert_and_nothing_else() {
        for import in [
            "wasi:filesystem/preopens@0.2.3",
            "wasi:sockets/tcp@0.2.0",
            "wasi:cli/stdin@0.2.12",
            "wasi:cli/terminal-stdout@0.2.3",
        ] {
            assert!(inert(import).is_some(), "{import}");
        }
        for import in [
            "wasi:cli/stdout@0.2.12",
            "wasi:cli/environment@0.2.12",
            "wasi:http/outgoing-handler@0.2.12",
            "wasi:clocks/wall-clock@0.2.12",
            "wasi:random/random@0.2.12",
            "wasi:io/poll@0.2.12",
            "fleetling:provider/secrets@0.1.0",
        ] {
            assert_eq!(inert(import), None, "{import}");
        }
    }
}
