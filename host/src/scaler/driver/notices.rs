//! What the provider remarks on its group: said when it begins to stand, not at every reading.

use tracing::{info, warn};

use crate::fleet::group::Notice;

/// Those of the last answer. A subject is said once, whatever its words become: they may hold a number that changes.
#[derive(Debug, Default)]
pub(super) struct Notices {
    standing: Vec<Notice>,
}

impl Notices {
    pub(super) fn standing(&self) -> &[Notice] {
        &self.standing
    }

    /// Takes all that stands now, and says what was not there before and what is over.
    pub(super) fn heard(&mut self, now: Vec<Notice>) {
        let (begun, over) = self.changed(now);
        for notice in begun {
            warn!(subject = %notice.subject, "{}", notice.message);
        }
        for notice in over {
            info!(subject = %notice.subject, "the provider remarks on this no more");
        }
    }

    /// What begins to stand, and what stood.
    fn changed(&mut self, now: Vec<Notice>) -> (Vec<Notice>, Vec<Notice>) {
        let was = std::mem::replace(&mut self.standing, now);
        let without = |of: &[Notice], others: &[Notice]| {
            let known =
                |notice: &&Notice| others.iter().all(|other| other.subject != notice.subject);
            of.iter().filter(known).cloned().collect()
        };
        (without(&self.standing, &was), without(&was, &self.standing))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notices(words: &[(&str, &str)]) -> Vec<Notice> {
        let notice = |(subject, message): &(&str, &str)| Notice {
            subject: (*subject).into(),
            message: (*message).into(),
        };
        words.iter().map(notice).collect()
    }

    #[test]
    fn a_remark_is_said_when_it_begins_and_when_it_is_over() {
        let mut heard = Notices::default();
        let balanced = notices(&[("AZRebalance", "is on")]);
        assert_eq!(heard.changed(balanced.clone()), (balanced.clone(), vec![]));
        assert_eq!(heard.changed(balanced), (vec![], vec![]));
        let more = notices(&[("AZRebalance", "is still on"), ("owner", "is another")]);
        assert_eq!(heard.changed(more.clone()), (more[1..].to_vec(), vec![]));
        assert_eq!(heard.standing(), more);
        assert_eq!(heard.changed(vec![]), (vec![], more));
    }
}
