//! Replaces secret phrases in a stream: an Aho-Corasick automaton that knows how much of the end may still become one.

use super::{Filter, MASKED};

#[derive(Clone, Debug, Default)]
struct Node {
    /// Sorted by byte.
    next: Vec<(u8, u32)>,
    /// The node of the longest proper suffix that begins a phrase.
    fail: u32,
    /// Bytes from the root.
    depth: usize,
    /// How many of the last bytes may still grow into a phrase.
    live: usize,
    /// Length of the longest phrase that ends here; 0 is none.
    ends: usize,
}

/// The automaton; built once for a job and shared by its streams.
#[derive(Debug)]
pub(super) struct Phrases {
    nodes: Vec<Node>,
    /// Where each byte leads from the root.
    first: [u32; 256],
}

impl Phrases {
    pub(super) fn new(phrases: &[Vec<u8>]) -> Self {
        let mut nodes = vec![Node::default()];
        for phrase in phrases {
            let mut at = 0;
            for &byte in phrase {
                at = match child(&nodes[at], byte) {
                    Some(next) => next as usize,
                    None => {
                        let made = nodes.len();
                        let depth = nodes[at].depth + 1;
                        nodes.push(Node {
                            depth,
                            ..Node::default()
                        });
                        let place = nodes[at].next.partition_point(|(b, _)| *b < byte);
                        nodes[at].next.insert(place, (byte, made as u32));
                        made
                    }
                };
            }
            nodes[at].ends = phrase.len();
        }
        let mut first = [0; 256];
        for &(byte, node) in &nodes[0].next {
            first[usize::from(byte)] = node;
        }
        let mut automaton = Self { nodes, first };
        automaton.link();
        automaton
    }

    /// Breadth first, so that a node's suffix is complete before the node asks for it.
    fn link(&mut self) {
        let mut queue: std::collections::VecDeque<u32> =
            self.nodes[0].next.iter().map(|(_, node)| *node).collect();
        while let Some(at) = queue.pop_front() {
            let fail = self.nodes[at as usize].fail;
            let (ends, live) = (
                self.nodes[fail as usize].ends,
                self.nodes[fail as usize].live,
            );
            let node = &mut self.nodes[at as usize];
            node.ends = node.ends.max(ends);
            node.live = if node.next.is_empty() {
                live
            } else {
                node.depth
            };
            for (byte, below) in node.next.clone() {
                self.nodes[below as usize].fail = self.step(fail, byte);
                queue.push_back(below);
            }
        }
    }

    fn step(&self, mut at: u32, byte: u8) -> u32 {
        while at != 0 {
            let node = &self.nodes[at as usize];
            match child(node, byte) {
                Some(next) => return next,
                None => at = node.fail,
            }
        }
        self.first[usize::from(byte)]
    }
}

fn child(node: &Node, byte: u8) -> Option<u32> {
    node.next
        .binary_search_by_key(&byte, |(b, _)| *b)
        .ok()
        .map(|at| node.next[at].1)
}

/// One stream through the automaton.
///
/// Invariant: `held` ends with the longest suffix of the input that begins a phrase, and starts at the first byte that
/// such a phrase, or a match that reaches into it, may cover.
pub(super) struct PhraseFilter {
    phrases: std::sync::Arc<Phrases>,
    at: u32,
    held: Vec<u8>,
    /// Matched runs within `held`, ascending, apart; matches that overlap are one run, so no part of either shows.
    runs: Vec<(usize, usize)>,
}

impl PhraseFilter {
    pub(super) fn new(phrases: std::sync::Arc<Phrases>) -> Self {
        Self {
            phrases,
            at: 0,
            held: Vec::new(),
            runs: Vec::new(),
        }
    }

    /// Goes on with an automaton that knows more; what is held is looked at again.
    pub(super) fn adopt(&mut self, phrases: std::sync::Arc<Phrases>, out: &mut Vec<u8>) {
        if std::sync::Arc::ptr_eq(&self.phrases, &phrases) {
            return;
        }
        let held = std::mem::take(&mut self.held);
        *self = Self::new(phrases);
        self.write(&held, out);
    }

    fn matched(&mut self, mut start: usize, end: usize) {
        while let Some(&(s, e)) = self.runs.last() {
            if e <= start {
                break;
            }
            start = start.min(s);
            self.runs.pop();
        }
        self.runs.push((start, end));
    }

    /// Lets go of everything before `safe`, and of a run only whole.
    fn release(&mut self, safe: usize, out: &mut Vec<u8>) {
        let mut from = 0;
        let mut whole = 0;
        for &(start, end) in &self.runs {
            // A run that ends at or after `safe` may still grow together with the next match.
            if end > safe {
                break;
            }
            out.extend_from_slice(&self.held[from..start]);
            out.extend_from_slice(MASKED);
            from = end;
            whole += 1;
        }
        self.runs.drain(..whole);
        let until = self
            .runs
            .first()
            .map_or(safe, |(start, _)| safe.min(*start));
        if until > from {
            out.extend_from_slice(&self.held[from..until]);
            from = until;
        }
        self.held.drain(..from);
        for run in &mut self.runs {
            run.0 -= from;
            run.1 -= from;
        }
    }
}

impl Filter for PhraseFilter {
    fn write(&mut self, mut input: &[u8], out: &mut Vec<u8>) {
        while !input.is_empty() {
            if self.at == 0 {
                self.release(self.held.len(), out);
                let first = &self.phrases.first;
                let plain = input
                    .iter()
                    .position(|byte| first[usize::from(*byte)] != 0)
                    .unwrap_or(input.len());
                out.extend_from_slice(&input[..plain]);
                input = &input[plain..];
            }
            let Some((&byte, rest)) = input.split_first() else {
                return;
            };
            input = rest;
            self.at = self.phrases.step(self.at, byte);
            self.held.push(byte);
            let node = &self.phrases.nodes[self.at as usize];
            let (ends, live) = (node.ends, node.live);
            if ends > 0 {
                self.matched(self.held.len() - ends, self.held.len());
            }
            // Releasing at every byte would move the held bytes as often; they are at most a phrase and this much.
            if input.is_empty() || self.held.len() >= live + 4096 {
                self.release(self.held.len() - live, out);
            }
        }
    }

    fn finish(&mut self, out: &mut Vec<u8>) {
        self.at = 0;
        self.release(self.held.len(), out);
    }
}
