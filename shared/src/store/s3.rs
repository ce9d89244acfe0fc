//! The way to a bucket: S3 and what speaks its language.
//!
//! Invariant: without credentials nothing is asked of anybody. The crate would then ask the metadata address of a cloud,
//! which elsewhere answers after minutes or with something else; who runs on such a machine says so.

use std::sync::Arc;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey as Key};
use object_store::{ObjectStore, RetryConfig};

/// The settings that say who we are; one of these groups must be there.
const CREDENTIALS: [&[Key]; 5] = [
    &[Key::AccessKeyId],
    &[Key::WebIdentityTokenFile, Key::RoleArn],
    &[Key::ContainerCredentialsRelativeUri],
    &[Key::ContainerCredentialsFullUri, Key::ContainerAuthorizationTokenFile],
    &[Key::MetadataEndpoint],
];

/// Opens a bucket by the environment, or `settings`, which come before it.
pub(super) fn open(bucket: &str, settings: &[(String, String)]) -> Result<Arc<dyn ObjectStore>, String> {
    let mut builder = AmazonS3Builder::from_env();
    for (name, value) in settings {
        let key = name
            .parse()
            .map_err(|_| format!("\"{name}\" is no setting of an object store"))?;
        builder = builder.with_config(key, value);
    }
    if !is_anonymous(&builder) && !has_credentials(&builder) {
        return Err(
            "no credentials for S3: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_SKIP_SIGNATURE=true for a public \
             bucket, or AWS_METADATA_ENDPOINT=http://169.254.169.254 on a machine of a cloud that has a role"
                .to_owned(),
        );
    }
    let built = builder
        .with_bucket_name(bucket)
        .with_retry(RetryConfig {
            // Whoever calls waits and asks again with patience of his own.
            max_retries: 2,
            ..RetryConfig::default()
        })
        .build();
    match built {
        Ok(store) => Ok(Arc::new(store)),
        Err(error) => Err(error.to_string()),
    }
}

fn is_anonymous(builder: &AmazonS3Builder) -> bool {
    let said = builder.get_config_value(&Key::SkipSignature);
    said.is_some_and(|said| {
        matches!(
            said.to_ascii_lowercase().as_str(),
            "true" | "1" | "yes" | "on" | "y" | "t"
        )
    })
}

fn has_credentials(builder: &AmazonS3Builder) -> bool {
    let is_set = |key: &Key| builder.get_config_value(key).is_some_and(|value| !value.is_empty());
    // A secret key alone is half of the pair: the crate says so.
    CREDENTIALS.iter().any(|group| group.iter().all(is_set)) || is_set(&Key::SecretAccessKey)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        let pairs = pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        pairs.collect()
    }

    #[test]
    fn a_bucket_opens_with_credentials_or_where_none_are_wanted() {
        for good in [
            &[("aws_access_key_id", "a"), ("aws_secret_access_key", "b")][..],
            &[("aws_skip_signature", "true")],
            &[("aws_metadata_endpoint", "http://169.254.169.254")],
            &[("aws_container_credentials_relative_uri", "/x")],
        ] {
            open("bucket", &settings(good)).unwrap();
        }
        let half = open("bucket", &settings(&[("aws_secret_access_key", "b")])).unwrap_err();
        assert!(half.contains("AccessKeyId"), "{half}");
        for bad in [&[][..], &[("aws_skip_signature", "false")], &[("aws_role_arn", "r")]] {
            let error = open("bucket", &settings(bad)).unwrap_err();
            assert!(
                error.starts_with("no credentials for S3: set AWS_ACCESS_KEY_ID"),
                "{error}"
            );
        }
    }
}
