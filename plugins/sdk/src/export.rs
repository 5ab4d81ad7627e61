//! From the component's exports to a [`Provider`] value.

use std::cell::RefCell;
use std::marker::PhantomData;
use std::rc::Rc;

use crate::bindings::exports::fleetling::provider::provider::Guest;
use crate::{
    Connection, Description, Group, Host, IncreaseOutcome, IncreaseRequest, InstanceRef, Problem,
    ProblemKind, Provider, Removal, Settings, Snapshot,
};

/// Where the value made by `init` is kept: a static cannot be generic, so the macro owns it.
pub trait Slot: Provider {
    fn slot<R>(then: impl FnOnce(&RefCell<Option<Rc<Self>>>) -> R) -> R;
    fn host() -> Rc<dyn Host>;
}

/// The exports of a component whose provider is `P`.
#[derive(Debug)]
pub struct Exported<P>(PhantomData<P>);

/// The value, or a problem that tells the host's author what was forgotten.
fn ready<P: Slot>() -> Result<Rc<P>, Problem> {
    P::slot(|slot| slot.borrow().clone()).ok_or_else(|| {
        Problem::new(
            ProblemKind::Other,
            "called before `init` succeeded; next: this is a fault of the host, report it",
        )
    })
}

impl<P: Slot> Guest for Exported<P> {
    fn describe() -> Description {
        P::describe()
    }

    fn init(config: String, settings: Settings) -> Result<(), Problem> {
        let provider = P::init(P::host(), &config, settings)?;
        P::slot(|slot| slot.replace(Some(Rc::new(provider))));
        Ok(())
    }

    fn open() -> Result<Group, Problem> {
        ready::<P>()?.open()
    }

    fn update() -> Result<Snapshot, Problem> {
        ready::<P>()?.update()
    }

    fn increase(request: IncreaseRequest) -> IncreaseOutcome {
        match ready::<P>() {
            Ok(provider) => provider.increase(request),
            Err(problem) => IncreaseOutcome::refused(problem),
        }
    }

    fn decrease(instances: Vec<InstanceRef>) -> Vec<Removal> {
        match ready::<P>() {
            Ok(provider) => provider.decrease(instances),
            Err(problem) => vec![Removal::Refused(problem); instances.len()],
        }
    }

    fn connect_info(of: InstanceRef) -> Result<Connection, Problem> {
        ready::<P>()?.connect_info(of)
    }

    fn heartbeat(of: InstanceRef) -> Result<(), Problem> {
        ready::<P>()?.heartbeat(of)
    }

    fn shutdown(for_good: bool) -> Result<(), Problem> {
        ready::<P>()?.shutdown(for_good)
    }
}

/// Makes the crate a component whose provider is the given type. Native builds, such as tests, are left as they are.
#[macro_export]
macro_rules! export_provider {
    ($provider:ty) => {
        #[cfg(target_family = "wasm")]
        #[expect(unsafe_code, reason = "a component's exports are C functions")]
        const _: () = {
            use std::{cell::RefCell, rc::Rc};

            thread_local! {
                static SLOT: RefCell<Option<Rc<$provider>>> = const { RefCell::new(None) };
            }

            impl $crate::exported::Slot for $provider {
                fn slot<R>(then: impl FnOnce(&RefCell<Option<Rc<Self>>>) -> R) -> R {
                    SLOT.with(then)
                }

                fn host() -> Rc<dyn $crate::Host> {
                    Rc::new($crate::Sandbox)
                }
            }

            type Exported = $crate::exported::Exported<$provider>;
    $crate::exported::export_contract!(Exported with_types_in $crate::exported);
        };
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::script::Script;

    struct Nothing;

    thread_local! {
        static SLOT: RefCell<Option<Rc<Nothing>>> = const { RefCell::new(None) };
    }

    impl Slot for Nothing {
        fn slot<R>(then: impl FnOnce(&RefCell<Option<Rc<Self>>>) -> R) -> R {
            SLOT.with(then)
        }
        fn host() -> Rc<dyn Host> {
            Rc::new(Script::default())
        }
    }

    impl Provider for Nothing {
        fn describe() -> Description {
            Description {
                name: "nothing".into(),
                version: "0.0.0".into(),
                config_schema: "{}".into(),
                wants: vec![],
                extras: vec![],
            }
        }
        fn init(_: Rc<dyn Host>, config: &str, _: Settings) -> Result<Self, Problem> {
            match config {
                "{}" => Ok(Self),
                _ => Err(Problem::invalid_config("plugin_config", "must be empty")),
            }
        }
        fn open(&self) -> Result<Group, Problem> {
            Err(Problem::new(ProblemKind::NotFound, "nothing is nowhere"))
        }
        fn update(&self) -> Result<Snapshot, Problem> {
            Ok(Snapshot::default())
        }
        fn increase(&self, _: IncreaseRequest) -> IncreaseOutcome {
            IncreaseOutcome::default()
        }
        fn decrease(&self, instances: Vec<InstanceRef>) -> Vec<Removal> {
            vec![Removal::Gone; instances.len()]
        }
        fn connect_info(&self, _: InstanceRef) -> Result<Connection, Problem> {
            Err(Problem::new(ProblemKind::NotFound, "no such instance"))
        }
        fn heartbeat(&self, _: InstanceRef) -> Result<(), Problem> {
            Ok(())
        }
        fn shutdown(&self, _: bool) -> Result<(), Problem> {
            Ok(())
        }
    }

    #[test]
    fn a_call_before_init_is_a_problem_for_every_instance_asked_about() {
        let two = vec![
            InstanceRef {
                id: "a".into(),
                memo: String::new(),
            },
            InstanceRef {
                id: "b".into(),
                memo: String::new(),
            },
        ];
        let answers = Exported::<Nothing>::decrease(two.clone());
        assert_eq!(answers.len(), 2);
        assert!(matches!(&answers[1], Removal::Refused(p) if p.message.contains("`init`")));
        assert!(Exported::<Nothing>::update().is_err());

        assert!(Exported::<Nothing>::init("[]".into(), Settings::for_tests()).is_err());
        assert!(
            Exported::<Nothing>::update().is_err(),
            "a failed init leaves nothing"
        );
        assert!(Exported::<Nothing>::init("{}".into(), Settings::for_tests()).is_ok());
        assert_eq!(
            Exported::<Nothing>::decrease(two),
            vec![Removal::Gone, Removal::Gone]
        );
    }
}
