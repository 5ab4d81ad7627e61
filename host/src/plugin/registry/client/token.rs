//! What a registry wants to see before it answers: a password, or a token from the place that it names.

use http::{HeaderMap, HeaderValue, header};
use reqwest::Url;
use secrecy::ExposeSecret;
use serde::Deserialize;

use super::{Client, RegistryProblem, read, senseless};
use crate::plugin::registry::login::Login;

const TOKEN_BYTES: u64 = 64 << 10;

/// `WWW-Authenticate`, as far as it is understood.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Challenge {
    Basic,
    Bearer {
        realm: String,
        service: Option<String>,
        scope: Option<String>,
    },
}

#[derive(Deserialize)]
struct Token {
    token: Option<String>,
    access_token: Option<String>,
}

impl Client {
    /// The header that answers the challenge; `None` if there is nothing that we could answer.
    pub(super) async fn authorize(
        &self,
        headers: &HeaderMap,
    ) -> Result<Option<HeaderValue>, RegistryProblem> {
        match (challenge(headers), &self.login) {
            (
                Some(Challenge::Bearer {
                    realm,
                    service,
                    scope,
                }),
                _,
            ) => self.token(&realm, service, scope).await.map(Some),
            (Some(Challenge::Basic), Some(login)) => Ok(basic(login)),
            _ => Ok(None),
        }
    }

    async fn token(
        &self,
        realm: &str,
        service: Option<String>,
        scope: Option<String>,
    ) -> Result<HeaderValue, RegistryProblem> {
        let what = format!("the login at {}", self.remote.registry);
        let mut url = Url::parse(realm).map_err(|problem| senseless(&what, &problem))?;
        if !self.may_speak_to(&url) {
            url.set_query(None);
            return Err(RegistryProblem::LoginExposed {
                registry: self.remote.registry.clone(),
                realm: super::printable(url.as_str()),
            });
        }
        let (repository, actions) = (&self.remote.repository, self.access.actions());
        let scope = scope.unwrap_or_else(|| format!("repository:{repository}:{actions}"));
        let mut fields = vec![("scope", scope)];
        fields.extend(service.map(|service| ("service", service)));
        let request = match &self.login {
            Some(Login::Identity { token, .. }) => {
                let token = token.expose_secret().to_owned();
                fields.push(("grant_type", "refresh_token".to_owned()));
                fields.push(("client_id", "fleetling".to_owned()));
                fields.push(("refresh_token", token));
                let mut form = url::form_urlencoded::Serializer::new(String::new());
                let form = form.extend_pairs(&fields).finish();
                let kind = "application/x-www-form-urlencoded";
                let request = self.http.post(url).body(form);
                request.header(header::CONTENT_TYPE, kind)
            }
            login => {
                url.query_pairs_mut().extend_pairs(&fields);
                let request = self.http.get(url);
                match login.as_ref().and_then(basic) {
                    Some(basic) => request.header(header::AUTHORIZATION, basic),
                    None => request,
                }
            }
        };
        let answer = request.send().await;
        let answer = answer.map_err(|problem| {
            self.unreached(format!("{} (its login)", self.remote.registry), problem)
        })?;
        match answer.status().as_u16() {
            200 => {}
            400 | 401 | 403 => return Err(self.not_let_in()),
            status => {
                let says = super::said(answer).await;
                return Err(RegistryProblem::Refused { what, status, says });
            }
        }
        let body = read(answer, TOKEN_BYTES, &what).await?;
        let token = serde_json::from_slice::<Token>(&body);
        // The parser's words could quote what it did not understand.
        let token = token.map_err(|_| senseless(&what, &"no token in it"))?;
        let token = token.token.or(token.access_token);
        let token = token.ok_or_else(|| senseless(&what, &"no token in it"))?;
        let value = HeaderValue::from_str(&format!("Bearer {token}"));
        let mut value = value.map_err(|_| senseless(&what, &"its token is no header"))?;
        value.set_sensitive(true);
        Ok(value)
    }
}

/// `None` for an identity, which no registry takes as a password.
fn basic(login: &Login) -> Option<HeaderValue> {
    use base64::Engine as _;
    let Login::Password {
        username, password, ..
    } = login
    else {
        return None;
    };
    let pair = format!("{username}:{}", password.expose_secret());
    let encoded = base64::engine::general_purpose::STANDARD.encode(pair);
    let mut value = HeaderValue::from_str(&format!("Basic {encoded}")).ok()?;
    value.set_sensitive(true);
    Some(value)
}

fn challenge(headers: &HeaderMap) -> Option<Challenge> {
    let lines = headers.get_all(header::WWW_AUTHENTICATE).iter();
    let mut found = None;
    for line in lines.filter_map(|line| line.to_str().ok()) {
        let challenges = http_auth::parse_challenges(line).unwrap_or_default();
        for challenge in challenges {
            let parameter = |name: &str| {
                let mut all = challenge.params.iter();
                let named = all.find(|(key, _)| key.eq_ignore_ascii_case(name));
                named.map(|(_, value)| value.to_unescaped())
            };
            if challenge.scheme.eq_ignore_ascii_case("bearer") {
                let (service, scope) = (parameter("service"), parameter("scope"));
                return Some(Challenge::Bearer {
                    realm: parameter("realm")?,
                    service,
                    scope,
                });
            }
            if challenge.scheme.eq_ignore_ascii_case("basic") {
                found = Some(Challenge::Basic);
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_preferred_to_a_password_and_others_are_not_understood() {
        let of = |lines: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(header::WWW_AUTHENTICATE, HeaderValue::from_static(line));
            }
            challenge(&headers)
        };
        let bearer = |service: Option<&str>, scope: Option<&str>| Challenge::Bearer {
            realm: "https://auth.example/token".to_owned(),
            service: service.map(str::to_owned),
            scope: scope.map(str::to_owned),
        };
        for (lines, expected) in [
            (
                &[
                    r#"Bearer realm="https://auth.example/token",service="r",scope="repository:a/b:pull,push""#,
                ][..],
                Some(bearer(Some("r"), Some("repository:a/b:pull,push"))),
            ),
            (
                &[r#"bearer realm="https://auth.example/token""#],
                Some(bearer(None, None)),
            ),
            (&[r#"Basic realm="r""#], Some(Challenge::Basic)),
            (
                &[
                    r#"Basic realm="r""#,
                    r#"Bearer realm="https://auth.example/token""#,
                ],
                Some(bearer(None, None)),
            ),
            (&["Bearer scope=x"], None),
            (&["Negotiate"], None),
            (&["\"=,"], None),
            (&[], None),
        ] {
            assert_eq!(of(lines), expected, "{lines:?}");
        }
    }
}
