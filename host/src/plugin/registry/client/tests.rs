//! The client against a registry on loopback that does not always mean well.

mod secured;

use axum::body::Body;
use futures_util::stream;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;
use crate::plugin::registry::fake::{
    Guard, PASSWORD, REFRESH, REPOSITORY, Registry, password, said,
};

type Said<T> = Result<T, RegistryProblem>;

fn told<T>(said: Said<T>) -> String {
    match said {
        Ok(_) => panic!("it went well"),
        Err(problem) => problem.to_string(),
    }
}

#[tokio::test]
async fn a_token_is_fetched_once_with_the_login_and_shown_to_the_registry_only() {
    let registry = Registry::start(Guard::Bearer).await;
    let digest = registry.plugin("1.0.0", b"wasm");
    let client = registry.client("", password(PASSWORD), Access::Read);
    assert_eq!(client.tags().await, Ok(vec!["1.0.0".to_owned()]));
    let manifest = client.manifest("1.0.0").await;
    assert_eq!(manifest.map(|(_, digest)| digest), Ok(digest));
    let seen = registry.seen();
    let requests: Vec<_> = seen.iter().map(|seen| seen.request.as_str()).collect();
    assert_eq!(
        requests,
        [
            "GET /v2/team/aws/tags/list",
            "GET /token?scope=repository%3Ateam%2Faws%3Apull&service=fake",
            "GET /v2/team/aws/tags/list",
            "GET /v2/team/aws/manifests/1.0.0",
        ]
    );
    let shown: Vec<_> = seen.iter().map(|s| s.authorization.as_deref()).collect();
    let token = Some("Bearer a-token");
    assert_eq!(shown, [None, Some("Basic c29tZW9uZTpodXNo"), token, token]);
}

#[tokio::test]
async fn an_identity_is_exchanged_for_a_token() {
    let registry = Registry::start(Guard::Bearer).await;
    let login = Login::Identity {
        token: REFRESH.to_owned().into(),
        source: "config.json".to_owned(),
    };
    let client = registry.client("", Some(login), Access::Write);
    assert_eq!(client.tags().await, Ok(Vec::new()));
    let seen = registry.seen();
    assert_eq!(seen[1].request, "POST /token");
    assert_eq!(
        seen[1].body,
        "scope=repository%3Ateam%2Faws%3Apull%2Cpush&service=fake&grant_type=refresh_token&client_id=fleetling\
         &refresh_token=refresh-me"
    );
}

#[tokio::test]
async fn a_login_that_is_wrong_or_missing_is_told_and_not_shown() {
    for guard in [Guard::Basic, Guard::Bearer] {
        let registry = Registry::start(guard).await;
        let right = registry.client("", password(PASSWORD), Access::Read);
        assert_eq!(right.tags().await, Ok(Vec::new()), "{guard:?}");
        let wrong = registry.client("", password("secret-guess"), Access::Read);
        let wrong = told(wrong.tags().await).replace(&registry.address, "REGISTRY");
        assert_eq!(
            wrong,
            "registry REGISTRY refuses the login from config.json; next: `docker login REGISTRY` with a login that may \
             do this",
            "{guard:?}"
        );
        let none = registry.client("", None, Access::Read);
        let none = told(none.tags().await).replace(&registry.address, "REGISTRY");
        assert_eq!(
            none,
            "registry REGISTRY asks for a login, and there is none; next: `docker login REGISTRY`",
            "{guard:?}"
        );
    }
}

#[tokio::test]
async fn a_redirect_is_followed_without_what_belongs_to_the_registry() {
    let (registry, storage) = (
        Registry::start(Guard::Bearer).await,
        Registry::start(Guard::Nobody).await,
    );
    let digest = storage.blob(b"wasm");
    let path = format!("blobs/{digest}");
    let place = format!("http://{}/v2/{REPOSITORY}/{path}", storage.address);
    registry.instead(&path, move || said(307, &[("location", &place)], ""));
    let client = registry.client("", password(PASSWORD), Access::Read);
    assert_eq!(client.tags().await, Ok(Vec::new()));
    assert_eq!(client.blob(&digest, 4).await, Ok(b"wasm".to_vec()));
    let led = registry.seen().pop().map(|seen| seen.authorization);
    assert_eq!(led, Some(Some("Bearer a-token".to_owned())));
    let shown: Vec<_> = storage
        .seen()
        .into_iter()
        .map(|s| s.authorization)
        .collect();
    assert_eq!(shown, [None]);
}

#[tokio::test]
async fn an_upload_elsewhere_is_sent_without_what_belongs_to_the_registry() {
    let (registry, storage) = (
        Registry::start(Guard::Basic).await,
        Registry::start(Guard::Nobody).await,
    );
    let place = format!(
        "http://{}/v2/{REPOSITORY}/blobs/uploads/1?state=x",
        storage.address
    );
    registry.instead("blobs/uploads/", move || {
        said(202, &[("location", &place)], "")
    });
    let client = registry.client("", password(PASSWORD), Access::Write);
    assert_eq!(client.upload(Bytes::from_static(b"wasm")).await, Ok(()));
    assert_eq!(storage.blobs(), [b"wasm"]);
    let shown: Vec<_> = storage
        .seen()
        .into_iter()
        .map(|s| s.authorization)
        .collect();
    assert_eq!(shown, [None]);
}

#[tokio::test]
async fn a_circle_of_redirects_ends() {
    let registry = Registry::start(Guard::Nobody).await;
    let place = format!("/v2/{REPOSITORY}/manifests/1.0.0");
    registry.instead("manifests/1.0.0", move || {
        said(302, &[("location", &place)], "")
    });
    let client = registry.client("", None, Access::Read);
    let astray = told(client.manifest("1.0.0").await);
    assert!(astray.contains("at most 5 times"), "{astray}");
    assert_eq!(registry.seen().len(), REDIRECTS + 1);
}

#[tokio::test]
async fn nothing_is_sent_in_the_clear_for_a_registry_with_tls() {
    let remote = Remote::parse("r.example/team/aws").expect("it is one");
    let client = Client::new(
        &remote,
        password(PASSWORD),
        Certificates::default(),
        Access::Read,
        false,
    );
    let client = client.expect("a client can be made");
    let plain = Url::parse("http://r.example/v2/").expect("it is one");
    assert!(!client.may_speak_to(&plain));
    let file = Url::parse("file:///etc/passwd").expect("it is one");
    assert!(!client.may_speak_to(&file));
    let mut headers = header::HeaderMap::new();
    let challenge = "Bearer realm=\"http://auth.example/token?key=secret\"";
    headers.append(
        header::WWW_AUTHENTICATE,
        HeaderValue::from_static(challenge),
    );
    let exposed = client.authorize(&headers).await.map(|_| ());
    assert_eq!(
        told(exposed),
        "registry r.example would send the login to http://auth.example/token, which is not https; next: ask its keeper"
    );
    let ask = Ask::of(Method::GET, plain, "it".to_owned());
    let astray = told(client.send(ask).await);
    assert!(
        astray.starts_with("it leads to http://r.example/v2/,"),
        "{astray}"
    );
}

#[test]
fn plain_http_is_for_loopback_and_by_request() {
    for (registry, plain_http, scheme) in [
        ("localhost:5000", false, "http"),
        ("127.0.0.1:5000", false, "http"),
        ("127.9.9.9", false, "http"),
        ("r.example", false, "https"),
        ("10.0.0.1:5000", false, "https"),
        ("localhost.example", false, "https"),
        ("r.example", true, "http"),
    ] {
        let remote = Remote::parse(&format!("{registry}/team/aws")).expect(registry);
        let client = Client::new(
            &remote,
            None,
            Certificates::default(),
            Access::Read,
            plain_http,
        )
        .expect(registry);
        assert_eq!(client.base.scheme(), scheme, "{registry}");
    }
}

#[tokio::test]
async fn an_answer_without_end_is_given_up() {
    let registry = Registry::start(Guard::Nobody).await;
    let endless = || {
        let piece = Bytes::from(vec![b' '; 64 << 10]);
        let pieces = stream::repeat_with(move || Ok::<_, std::io::Error>(piece.clone()));
        said(200, &[], Body::from_stream(pieces))
    };
    let digest = sha256(b"wasm");
    for path in ["manifests/1.0.0", "tags/list", &format!("blobs/{digest}")] {
        registry.instead(path, endless);
    }
    let client = registry.client("", None, Access::Read);
    let manifest = told(client.manifest("1.0.0").await).replace(&registry.address, "REGISTRY");
    assert_eq!(
        manifest,
        "REGISTRY/team/aws:1.0.0 is larger than 4194304 bytes; next: ask its publisher what it is"
    );
    assert!(told(client.tags().await).contains("is larger than 4194304 bytes"));
    assert!(told(client.blob(&digest, 4).await).contains("is larger than 4 bytes"));
}

#[tokio::test]
async fn what_is_changed_on_the_way_is_refused() {
    let registry = Registry::start(Guard::Nobody).await;
    let digest = sha256(b"wasm");
    let client = registry.client("", None, Access::Read);
    registry.instead(&format!("blobs/{digest}"), || said(200, &[], "vasm"));
    let changed = told(client.blob(&digest, 4).await);
    assert!(changed.contains("is not what its digest says"), "{changed}");

    let forged = said_digest(&sha256(b"{}"));
    registry.instead("manifests/1.0.0", forged);
    assert!(told(client.manifest("1.0.0").await).contains("is not what its digest says"));
    let asked = sha256(b"what was asked for");
    registry.instead(&format!("manifests/{asked}"), || said(200, &[], "{}"));
    assert!(told(client.manifest(&asked).await).contains("is not what its digest says"));
}

#[tokio::test]
async fn a_download_that_is_cut_short_is_refused() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await;
    let listener = listener.expect("loopback has a free port");
    let address = listener.local_addr().expect("it is bound");
    let serving = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await?;
        let mut request = [0; 4096];
        let _ = stream.read(&mut request).await?;
        stream
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nwa")
            .await
    });
    let remote = Remote::parse(&format!("{address}/{REPOSITORY}")).expect("it is one");
    let client = Client::new(&remote, None, Certificates::default(), Access::Read, false)
        .expect("a client can be made");
    let cut = told(client.blob(&sha256(b"wasm"), 4).await);
    assert!(cut.contains(" broke off: "), "{cut}");
    assert!(serving.await.is_ok_and(|served| served.is_ok()));
}

/// A manifest that is not of the digest in its header.
fn said_digest(digest: &str) -> impl Fn() -> axum::http::Response<Body> + Send + 'static {
    let digest = digest.to_owned();
    move || said(200, &[("docker-content-digest", &digest)], "{ }")
}

#[tokio::test]
async fn tags_come_in_pages_of_the_registry_s_own() {
    let (registry, other) = (
        Registry::start(Guard::Nobody).await,
        Registry::start(Guard::Nobody).await,
    );
    let next = format!("</v2/{REPOSITORY}/more>; rel=\"next\"");
    registry.instead("tags/list", move || {
        said(200, &[("link", &next)], r#"{"tags": ["1.0.0"]}"#)
    });
    let away = format!(
        "<http://{}/v2/{REPOSITORY}/tags/list>; rel=\"next\"",
        other.address
    );
    registry.instead("more", move || {
        said(200, &[("link", &away)], r#"{"tags": ["2.0.0"]}"#)
    });
    let client = registry.client("", None, Access::Read);
    assert_eq!(
        client.tags().await,
        Ok(vec!["1.0.0".to_owned(), "2.0.0".to_owned()])
    );
    assert_eq!(other.seen(), []);
    registry.instead("tags/list", || said(200, &[], r#"{"tags": null}"#));
    assert_eq!(client.tags().await, Ok(Vec::new()));
}

#[tokio::test]
async fn what_the_registry_says_is_printed_as_one_line_of_text() {
    let registry = Registry::start(Guard::Nobody).await;
    let body = r#"{"errors": [{"code": "DENIED", "message": "go\u001b[2J\naway"}]}"#;
    registry.instead("manifests/1.0.0", move || said(403, &[], body));
    registry.instead("manifests/1.1.0", || said(503, &[], "<html>\x1b"));
    let client = registry.client("", None, Access::Read);
    let told_of =
        async |tag: &str| told(client.manifest(tag).await).replace(&registry.address, "REGISTRY");
    assert_eq!(
        told_of("1.0.0").await,
        "REGISTRY/team/aws:1.0.0 is refused by the registry (DENIED go [2J away); next: ask its keeper for the right to \
         do this"
    );
    assert_eq!(
        told_of("1.1.0").await,
        "REGISTRY/team/aws:1.1.0: the registry answers 503 (Service Unavailable); next: try again later, else ask its \
         keeper"
    );
    assert_eq!(
        told_of("1.2.0").await,
        "REGISTRY/team/aws:1.2.0 is not there; next: check its name and tag"
    );
}

#[tokio::test]
async fn a_registry_that_is_not_there_is_told() {
    let registry = Registry::start(Guard::Nobody).await;
    let client = registry.client("", None, Access::Read);
    drop(registry);
    let told = loop {
        // Its listener is closed by its task, in its own time.
        match client.tags().await {
            Ok(_) => tokio::task::yield_now().await,
            Err(problem) => break problem.to_string(),
        }
    };
    assert!(told.contains("could not be reached"), "{told}");
}
