//! Tokens that are good for one thing: pushing one attempt's log, fetching one bundle. Derived from the daemon's own
//! secret, so that none of them is stored.

use hmac::{Hmac, Mac as _};
use sha2::Sha256;
use subtle::ConstantTimeEq as _;

/// The daemon's secret.
#[derive(Clone)]
pub struct Secrets {
    key: Vec<u8>,
}

impl Secrets {
    /// From the secret kept in the store.
    pub fn new(secret: &str) -> Secrets {
        Secrets { key: secret.as_bytes().to_vec() }
    }

    /// A fresh secret: 32 random bytes, hex.
    pub fn fresh() -> String {
        hex::encode(rand::random::<[u8; 32]>())
    }

    fn derive(&self, what: &str) -> String {
        // HMAC takes a key of any length.
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(&self.key) else { return Secrets::fresh() };
        mac.update(what.as_bytes());
        hex::encode(mac.finalize().into_bytes())
    }

    /// For pushing the log of this attempt.
    pub fn attempt_token(&self, attempt: i64) -> String {
        self.derive(&format!("attempt {attempt}"))
    }

    /// Marks the control lines in the log of this attempt.
    pub fn nonce(&self, attempt: i64) -> String {
        self.derive(&format!("nonce {attempt}"))[..16].to_owned()
    }

    /// What the page's forms of this session carry.
    pub fn csrf_token(&self, session: &str) -> String {
        self.derive(&format!("form {session}"))
    }

    /// For fetching the bundle of this revision, as long as that deployment goes on.
    pub fn bundle_token(&self, sha: &str, deployment: i64) -> String {
        format!("{deployment}.{}", self.derive(&format!("bundle {sha} {deployment}")))
    }

    /// The deployment whose token for the bundle of this revision that is; none: it is no such token.
    pub fn opens_bundle(&self, sha: &str, token: &str) -> Option<i64> {
        let deployment = token.split_once('.')?.0.parse().ok()?;
        same(token, &self.bundle_token(sha, deployment)).then_some(deployment)
    }
}

/// Compares in constant time.
pub fn same(given: &str, right: &str) -> bool {
    given.as_bytes().ct_eq(right.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_opens_one_bundle_for_one_deployment() {
        let (secrets, others) = (Secrets::new("a"), Secrets::new("b"));
        let token = secrets.bundle_token("c0ffee", 7);
        assert_eq!(secrets.opens_bundle("c0ffee", &token), Some(7));
        for (sha, token) in
            [("c0ffed", token.clone()), ("c0ffee", token.replace("7.", "8.")), ("c0ffee", "7.".into())]
        {
            assert_eq!(secrets.opens_bundle(sha, &token), None, "{sha} {token}");
        }
        assert_eq!(others.opens_bundle("c0ffee", &token), None);
    }
}
