//! What a registry has to list: the tags of a repository, and what refers to one of its manifests. In pages, all read.

use http::{HeaderValue, Method, StatusCode, header};
use reqwest::Url;

use super::{Ask, Client, RegistryProblem, read, senseless};
use crate::plugin::registry::artifact::{Descriptor, INDEX, Manifest};

/// Bytes of a page.
const PAGE_BYTES: u64 = 4 << 20;
const PAGES: usize = 100;

impl Client {
    /// Every tag; none if the repository is not there.
    pub async fn tags(&self) -> Result<Vec<String>, RegistryProblem> {
        #[derive(serde::Deserialize)]
        struct Page {
            tags: Option<Vec<String>>,
        }
        let what = format!(
            "the tags of {}/{}",
            self.remote.registry, self.remote.repository
        );
        let mut tags = Vec::new();
        let mut next = Some(self.url("tags/list")?);
        for _ in 0..PAGES {
            let Some(url) = next else { break };
            let ask = Ask::of(Method::GET, url, what.clone());
            let (body, after) = match self.page(ask).await {
                // Also between two pages: what was listed so far is there.
                Err(RegistryProblem::Missing { .. }) => break,
                page => page?,
            };
            let page = serde_json::from_slice::<Page>(&body);
            let page = page.map_err(|problem| senseless(&what, &problem))?;
            tags.extend(page.tags.into_iter().flatten());
            next = after;
        }
        Ok(tags)
    }

    /// What refers to the manifest of this digest, signatures among it. A registry that does not keep a list has it
    /// under a tag made of the digest, which those who refer write by themselves.
    pub async fn referrers(&self, digest: &str) -> Result<Vec<Descriptor>, RegistryProblem> {
        use RegistryProblem as P;
        match self.listed_referrers(digest).await {
            Err(
                problem @ (P::Unreachable { .. }
                | P::BrokenOff { .. }
                | P::TooLarge { .. }
                | P::LoginNeeded { .. }
                | P::LoginRefused { .. }),
            ) => return Err(problem),
            Ok(found) if !found.is_empty() => return Ok(found),
            // None, or what registries say that do not know the question.
            Ok(_) | Err(_) => {}
        }
        match self.manifest(&digest.replace(':', "-")).await {
            Ok((bytes, _)) => Ok(Manifest::parse(&bytes)
                .map(|index| index.manifests)
                .unwrap_or_default()),
            Err(P::Missing { .. }) => Ok(Vec::new()),
            Err(problem) => Err(problem),
        }
    }

    async fn listed_referrers(&self, digest: &str) -> Result<Vec<Descriptor>, RegistryProblem> {
        let what = format!("the list of what refers to {digest}");
        let mut found = Vec::new();
        let mut next = Some(self.url(&format!("referrers/{digest}"))?);
        for _ in 0..PAGES {
            let Some(url) = next else { break };
            let mut ask = Ask::of(Method::GET, url, what.clone());
            ask.headers
                .push((header::ACCEPT, HeaderValue::from_static(INDEX)));
            let (body, after) = self.page(ask).await?;
            let page = Manifest::parse(&body).map_err(|problem| senseless(&what, &problem))?;
            found.extend(page.manifests);
            next = after;
        }
        Ok(found)
    }

    /// A page and where the next one is, if that is this registry's.
    async fn page(&self, ask: Ask) -> Result<(Vec<u8>, Option<Url>), RegistryProblem> {
        let (what, url) = (ask.what.clone(), ask.url.clone());
        let answer = self.expect(ask, &[StatusCode::OK]).await?;
        let next = next(answer.headers()).and_then(|next| url.join(&next).ok());
        let next = next.filter(|next| next.origin() == self.base.origin());
        Ok((read(answer, PAGE_BYTES, &what).await?, next))
    }
}

/// `Link: </v2/…>; rel="next"`
fn next(headers: &header::HeaderMap) -> Option<String> {
    let link = headers.get(header::LINK)?.to_str().ok()?;
    let (target, relation) = link.strip_prefix('<')?.split_once('>')?;
    relation.contains("next").then(|| target.to_owned())
}
