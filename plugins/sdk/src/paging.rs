//! Lists that an API hands out page by page.

use crate::{Problem, ProblemKind};

/// More pages than any group of instances has; an API that goes on is a loop.
const MOST_PAGES: usize = 1_000;

/// One page, and where the next one begins; none: it was the last.
#[derive(Clone, Debug)]
pub struct Page<T, C> {
    pub items: Vec<T>,
    pub next: Option<C>,
}

/// Every item of every page. `page` asks for the first one with none, then for each by its cursor: a token, a number, a
/// whole URL.
///
/// # Errors
/// The first problem of a page: half a list would say that the other half is gone. `unavailable` if the pages do not
/// end.
pub fn all<T, C: PartialEq>(
    mut page: impl FnMut(Option<&C>) -> Result<Page<T, C>, Problem>,
) -> Result<Vec<T>, Problem> {
    let mut items = Vec::new();
    let mut cursor = None;
    for _ in 0..MOST_PAGES {
        let answer = page(cursor.as_ref())?;
        items.extend(answer.items);
        match answer.next {
            None => return Ok(items),
            next if next == cursor => break,
            next => cursor = next,
        }
    }
    Err(Problem::new(
        ProblemKind::Unavailable,
        "the API's list of pages does not end; next: report it to whoever runs the API",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_joined_in_order_and_a_failed_one_fails_all() {
        let page = |cursor: Option<&u32>| {
            let n = cursor.copied().unwrap_or(0);
            Ok(Page {
                items: vec![n * 10, n * 10 + 1],
                next: (n < 2).then_some(n + 1),
            })
        };
        assert_eq!(all(page), Ok(vec![0, 1, 10, 11, 20, 21]));
        let failing = |cursor: Option<&u32>| match cursor {
            None => page(None),
            Some(_) => Err(Problem::new(ProblemKind::Throttled, "slow down")),
        };
        assert!(all(failing).is_err_and(|problem| problem.kind == ProblemKind::Throttled));
    }

    #[test]
    fn pages_that_do_not_end_are_a_problem() {
        let mut asked = 0;
        let same = |_: Option<&u32>| {
            asked += 1;
            Ok(Page {
                items: vec![1],
                next: Some(7),
            })
        };
        assert!(all(same).is_err());
        assert_eq!(asked, 2, "a place that leads to itself is left at once");
        let mut n = 0;
        let ever_new = |_: Option<&u32>| {
            n += 1;
            Ok(Page {
                items: vec![1],
                next: Some(n),
            })
        };
        assert!(all(ever_new).is_err());
    }
}
