//! Short ways to answer: what most plugins leave out is left out here.

use crate::{
    Address, Connection, Description, Group, IncreaseOutcome, Instance, InstanceState, Login,
    Problem, ProblemKind, Protocol, Reach, Removal,
};

impl Description {
    /// `wants`: origins that will be called; `{key}` stands for that key of `plugin_config`.
    pub fn new(name: &str, version: &str, config_schema: String, wants: &[&str]) -> Self {
        Self {
            name: name.into(),
            version: version.into(),
            config_schema,
            wants: wants.iter().map(|origin| (*origin).to_owned()).collect(),
            extras: Vec::new(),
        }
    }
}

impl Group {
    /// A group of which no more is known than that.
    pub fn new(id: impl Into<String>) -> Self {
        Self {
            id: id.into(),
            max_size: None,
            owner: None,
            notices: Vec::new(),
            extras: Vec::new(),
        }
    }
}

impl Instance {
    /// An instance of which no more is known than that.
    pub fn new(id: impl Into<String>, state: InstanceState) -> Self {
        Self {
            id: id.into(),
            state,
            created_at: None,
            pool: None,
            generation: None,
            interruption: None,
            reason: None,
            request: None,
            memo: String::new(),
            extras: Vec::new(),
        }
    }
}

impl IncreaseOutcome {
    /// Nothing was accepted, for this reason.
    pub fn refused(problem: Problem) -> Self {
        Self::made(Vec::new(), Err(problem))
    }

    /// These were made, and then it ended well, or with a problem.
    pub fn made(ids: Vec<String>, end: Result<(), Problem>) -> Self {
        Self {
            accepted: u32::try_from(ids.len()).unwrap_or(u32::MAX),
            ids,
            problems: end.err().into_iter().collect(),
            ..Self::default()
        }
    }
}

/// What became of one removal: what is not found is gone.
impl From<Result<(), Problem>> for Removal {
    fn from(outcome: Result<(), Problem>) -> Self {
        match outcome {
            Ok(()) => Self::Accepted,
            Err(problem) if problem.kind == ProblemKind::NotFound => Self::Gone,
            Err(problem) => Self::Refused(problem),
        }
    }
}

impl Connection {
    /// Linux, by SSH, with the host's own key.
    pub fn by_ssh(username: Option<String>, addresses: Vec<Address>) -> Self {
        Self {
            os: Some("linux".into()),
            arch: None,
            protocol: Some(Protocol::Ssh),
            username,
            login: Login::PublicKey,
            addresses,
            host_keys: Vec::new(),
            valid_until: None,
            extras: Vec::new(),
        }
    }
}

impl Address {
    /// Works within the cloud's own network.
    pub fn internal(host: impl Into<String>, port: Option<u16>) -> Self {
        let host = host.into();
        let reach = Reach::Internal;
        Self { reach, host, port }
    }

    /// Works from everywhere.
    pub fn external(host: impl Into<String>, port: Option<u16>) -> Self {
        Self {
            reach: Reach::External,
            ..Self::internal(host, port)
        }
    }
}
