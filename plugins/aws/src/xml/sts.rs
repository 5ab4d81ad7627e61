//! `AssumeRole` and `AssumeRoleWithWebIdentity`. Without `Debug`: they hold keys.

use serde::Deserialize;

#[derive(Deserialize)]
pub(crate) struct AssumeRoleResponse {
    #[serde(rename = "AssumeRoleResult")]
    pub(crate) result: Taken,
}

#[derive(Deserialize)]
pub(crate) struct AssumeRoleWithWebIdentityResponse {
    #[serde(rename = "AssumeRoleWithWebIdentityResult")]
    pub(crate) result: Taken,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Taken {
    pub(crate) credentials: Credentials,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Credentials {
    pub(crate) access_key_id: String,
    pub(crate) secret_access_key: String,
    pub(crate) session_token: String,
    pub(crate) expiration: String,
}
