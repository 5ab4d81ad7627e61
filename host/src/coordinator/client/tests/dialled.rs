//! The way to GitLab: through the environment's proxy or not.

use super::*;

fn through(url: &str, environment: &[(&str, &str)]) -> Result<Client, String> {
    let settings = settings(url);
    let variable = |name: &str| {
        let set = environment.iter().find(|(known, _)| *known == name);
        set.map(|(_, value)| (*value).to_owned())
    };
    let wire = Wire::new(&settings.url, ServerTls::default(), &variable)?;
    Ok(Client::on(Arc::new(Mutex::new(wire)), settings))
}

#[tokio::test]
async fn a_proxy_of_the_environment_is_asked_for_gitlab() {
    let proxy = Gitlab::saying([said(204)]).await;
    let proxy_address = proxy.client.shared.url.trim_end_matches("/base/ci");
    let with_login = proxy_address.replace("://", "://ann:s3cret@");
    let environment = [("HTTP_PROXY", with_login.as_str())];
    // A name that nobody could resolve: the proxy does.
    let client = through("http://gitlab.invalid/", &environment).unwrap();
    assert!(matches!(client.request_job().await.asked, Asked::Nothing));
    let got = proxy.take();
    assert_eq!(got.line, "POST http://gitlab.invalid/api/v4/jobs/request");
    assert!(got.header("Proxy-Authorization").starts_with("Basic "));
}

#[tokio::test]
async fn a_gitlab_on_this_machine_or_in_no_proxy_is_asked_directly() {
    let gitlab = Gitlab::saying([said(204)]).await;
    // Nobody listens there.
    let environment = [("HTTP_PROXY", "http://127.0.0.1:1")];
    let client = through(&gitlab.client.shared.url, &environment).unwrap();
    assert!(matches!(client.request_job().await.asked, Asked::Nothing));
}

#[test]
fn a_variable_that_is_no_proxy_is_named_and_not_quoted() {
    for value in ["ftp://ann:s3cret@proxy", "http://ann:s3cret@:x"] {
        let environment = [("HTTPS_PROXY", value)];
        let problem = through("https://gitlab.example", &environment).unwrap_err();
        assert!(
            problem.starts_with("HTTPS_PROXY of the environment is no proxy; next:"),
            "{problem}"
        );
        assert!(!problem.contains("s3cret"), "{problem}");
        assert!(through("http://gitlab.example", &environment).is_ok());
    }
    for value in [
        "proxy:3128",
        "https://proxy",
        "socks5://ann:s3cret@proxy:1080",
    ] {
        let environment = [("HTTPS_PROXY", value)];
        assert!(
            through("https://gitlab.example", &environment).is_ok(),
            "{value}"
        );
    }
}
