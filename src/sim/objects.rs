//! The objects that are in S3, and the regions of their buckets.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::wire::ApiError;

/// All objects by bucket and key.
#[derive(Debug, Default)]
pub struct Objects {
    /// The bytes by bucket and key, joined with a slash.
    by_path: BTreeMap<String, Bytes>,
    /// The region of each bucket that has one; from any other S3 refuses, and names the right one.
    regions: BTreeMap<String, String>,
}

impl Objects {
    /// Puts an object, or replaces it.
    pub fn put(&mut self, path: String, bytes: Bytes) {
        self.by_path.insert(path, bytes);
    }

    /// Puts a bucket into this region.
    pub fn put_region(&mut self, bucket: String, region: String) {
        self.regions.insert(bucket, region);
    }

    /// Returns an object as a signed request for this region gets it; an error may name the bucket's region.
    pub(super) fn get_signed(
        &self,
        bucket: &str,
        path: &str,
        region: &str,
    ) -> Result<Bytes, (ApiError, Option<String>)> {
        if let Some(right) = self.regions.get(bucket).filter(|right| *right != region) {
            let words = format!(
                "The authorization header is malformed; the region '{region}' is wrong; expecting '{right}'"
            );
            return Err((ApiError::new(400, "AuthorizationHeaderMalformed", words), Some(right.clone())));
        }
        let denied = || (ApiError::new(403, "AccessDenied", "Access Denied"), None);
        self.by_path.get(path).cloned().ok_or_else(denied)
    }

    /// Returns an object of a public bucket.
    pub(super) fn get_public(&self, path: &str) -> Result<Bytes, ApiError> {
        let missing = || ApiError::new(404, "NoSuchKey", "The specified key does not exist.");
        self.by_path.get(path).cloned().ok_or_else(missing)
    }
}
