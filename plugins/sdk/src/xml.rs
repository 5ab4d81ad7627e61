//! XML answers, with problems instead of panics.

use quick_xml::Reader;
use quick_xml::events::Event;
use serde::de::DeserializeOwned;

use crate::http::Response;
use crate::{Problem, ProblemKind};

/// The answer's body as `T`, whose fields are named as the elements are.
///
/// # Errors
/// `unavailable`: something else than the API answered, such as a proxy in between. `what` is the call's name.
pub fn read<T: DeserializeOwned>(response: &Response, what: &str) -> Result<T, Problem> {
    let strange = |detail: String| {
        Problem::new(
            ProblemKind::Unavailable,
            format!(
                "{what} was answered with something else than expected: {detail}; next: check what answers there"
            ),
        )
        .about(what)
    };
    let text = std::str::from_utf8(response.body()).map_err(|_| strange("not UTF-8".into()))?;
    quick_xml::de::from_str(text).map_err(|error| strange(error.to_string()))
}

/// The text of the first element of this name, however deep it stands; empty where there is none, or the body is no
/// XML. For refusals, which stand in several shapes even in one API.
pub fn text_of(body: &[u8], element: &str) -> String {
    let body = String::from_utf8_lossy(body);
    let mut reader = Reader::from_str(&body);
    let mut found = String::new();
    let mut is_inside = false;
    loop {
        match reader.read_event() {
            Ok(Event::Start(start)) => is_inside = start.local_name().as_ref() == element,
            Ok(Event::Text(text)) if is_inside => found.push_str(&text),
            Ok(Event::GeneralRef(entity)) if is_inside => found.push_str(meant(entity.as_ref())),
            Ok(Event::End(_)) if is_inside => return found.trim().to_owned(),
            Ok(Event::Eof) | Err(_) => return found.trim().to_owned(),
            Ok(_) => {}
        }
    }
}

fn meant(entity: &str) -> &'static str {
    match entity {
        "lt" => "<",
        "gt" => ">",
        "amp" => "&",
        "quot" => "\"",
        "apos" => "'",
        _ => "?",
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[test]
    fn the_first_element_of_a_name_is_found_at_any_depth() {
        let body = b"<R xmlns=\"x\"><Errors><Error><Code>No</Code><Message>a &lt;b&gt; c</Message></Error>\
            <Error><Code>Other</Code></Error></Errors></R>";
        assert_eq!(text_of(body, "Code"), "No");
        assert_eq!(text_of(body, "Message"), "a <b> c");
        for other in ["<!doctype html><p>oops", "", "Bad Gateway", "{}"] {
            assert_eq!(text_of(other.as_bytes(), "Code"), "", "{other}");
        }
    }

    #[test]
    fn an_answer_becomes_a_struct_or_a_problem() {
        #[derive(Debug, Deserialize, PartialEq)]
        struct Answer {
            #[serde(rename = "Name")]
            name: String,
        }
        let mut response = Response::new(b"<A><Name>x</Name></A>".to_vec());
        assert_eq!(read(&response, "Describe"), Ok(Answer { name: "x".into() }));
        *response.body_mut() = b"Bad Gateway".to_vec();
        let problem = read::<Answer>(&response, "Describe").expect_err("that is no XML");
        assert_eq!(problem.kind, ProblemKind::Unavailable);
    }
}
