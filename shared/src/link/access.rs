//! What goes with a URL to get in: user, password, and the files of TLS.
//!
//! Invariant: a secret stands in no argument list. A password comes from a variable or a file, never from a flag of its
//! own; what other users of the machine can read in an argument is at most a URL, and whoever writes one there is warned.

use std::path::PathBuf;

use clap::{Args, ValueHint};

use super::config::LinkConfig;
use super::password::Password;
use super::tls;
use crate::error::Error;
use crate::secret::Secret;

/// The variable with the password.
pub const PASSWORD_VARIABLE: &str = "WORKYARD_REDIS_PASSWORD";

/// How to get in, beside the URL. What the URL says goes before user and password of this.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
pub struct Access {
    /// The user of Redis, if the URL names none
    #[arg(long, global = true, env = "WORKYARD_REDIS_USER", value_name = "NAME")]
    pub redis_user: Option<String>,
    /// A file with the password, read anew at each connection; or say it in WORKYARD_REDIS_PASSWORD
    #[arg(long, global = true, env = "WORKYARD_REDIS_PASSWORD_FILE", value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub redis_password_file: Option<PathBuf>,
    /// The certificate of the authority that signed Redis' own, for rediss:// [default: those of the system]
    #[arg(long, global = true, env = "WORKYARD_REDIS_CA", value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub redis_ca: Option<PathBuf>,
    /// Our own certificate, if Redis asks for one
    #[arg(long, global = true, env = "WORKYARD_REDIS_CERT", value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub redis_cert: Option<PathBuf>,
    /// The key of that certificate
    #[arg(long, global = true, env = "WORKYARD_REDIS_KEY", value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub redis_key: Option<PathBuf>,
    /// The password itself, which no flag takes.
    #[arg(skip)]
    pub password: Option<Secret>,
}

impl Access {
    /// With the password of the variable, unless a file was named.
    #[must_use]
    pub fn with_variable(mut self) -> Self {
        if self.redis_password_file.is_none() {
            let said = std::env::var(PASSWORD_VARIABLE).ok().filter(|text| !text.is_empty());
            self.password = said.map(Secret::new).or(self.password);
        }
        self
    }

    /// What is not said here is taken from `other`.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        let says_password = self.password.is_some() || self.redis_password_file.is_some();
        let (password, file) = if says_password {
            (self.password, self.redis_password_file)
        } else {
            (other.password, other.redis_password_file)
        };
        Self {
            redis_user: self.redis_user.or(other.redis_user),
            password,
            redis_password_file: file,
            redis_ca: self.redis_ca.or(other.redis_ca),
            redis_cert: self.redis_cert.or(other.redis_cert),
            redis_key: self.redis_key.or(other.redis_key),
        }
    }
}

impl LinkConfig {
    /// The same place, entered with this.
    ///
    /// # Errors
    /// [`Error::Invalid`] if a file cannot be read or used, or is for TLS and the URL is not.
    pub fn with_access(mut self, access: &Access) -> Result<Self, Error> {
        tls::add_files(self.info_mut(), access)?;
        let settings = self.info().redis_settings().clone();
        let user = settings
            .username()
            .map(str::to_owned)
            .or_else(|| access.redis_user.clone());
        if settings.password().is_some() {
            return Ok(self);
        }
        let settings = match &user {
            Some(user) => settings.set_username(user),
            None => settings,
        };
        let password = access.password.clone().map(Password::Text);
        let file = access.redis_password_file.clone().map(Password::File);
        let settings = match file.or(password) {
            // Tried now: a file that is not there is a mistake that should show at once.
            Some(password) => settings.set_password(self.set_password(user, password)?.expose()),
            None => settings,
        };
        let info = self.info_mut();
        *info = info.clone().set_redis_settings(settings);
        Ok(self)
    }
}

/// A note for whoever wrote a password into the arguments of the program, which every user of the machine can read.
#[must_use]
pub fn note_on_arguments(mut arguments: impl Iterator<Item = String>) -> Option<&'static str> {
    let shows = |argument: String| {
        let Some((_, rest)) = argument.split_once("://") else {
            return false;
        };
        let authority = rest.split('/').next().unwrap_or_default();
        authority
            .rsplit_once('@')
            .and_then(|(login, _)| login.split_once(':'))
            .is_some_and(|(_, password)| !password.is_empty())
    };
    arguments.any(shows).then_some(
        "the password in the URL can be read by every user of this machine (ps): put it into WORKYARD_REDIS_URL, \
         WORKYARD_REDIS_PASSWORD or a file (--redis-password-file)",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entered(url: &str, access: &Access) -> (String, Option<String>) {
        let config = LinkConfig::from_url(url).unwrap().with_access(access).unwrap();
        let password = config.info().redis_settings().password().map(str::to_owned);
        (config.user().to_owned(), password)
    }

    #[test]
    fn the_url_goes_before_what_is_said_beside_it() {
        let access = Access {
            redis_user: Some("ada".to_owned()),
            password: Some(Secret::new("beside")),
            ..Access::default()
        };
        let cases = [
            ("redis://h/", ("ada", Some("beside"))),
            ("redis://bob@h/", ("bob", Some("beside"))),
            ("redis://bob:own@h/", ("bob", Some("own"))),
            ("redis://:own@h/", ("default", Some("own"))),
        ];
        for (url, (user, password)) in cases {
            assert_eq!(
                entered(url, &access),
                (user.to_owned(), password.map(str::to_owned)),
                "{url}"
            );
        }
        assert_eq!(entered("redis://h/", &Access::default()), ("default".to_owned(), None));
    }

    #[test]
    fn flags_go_before_the_file_and_a_password_is_taken_whole() {
        let flags = Access {
            redis_password_file: Some("flag".into()),
            ..Access::default()
        };
        let file = Access {
            redis_user: Some("u".to_owned()),
            password: Some(Secret::new("p")),
            redis_ca: Some("ca".into()),
            ..Access::default()
        };
        let both = flags.or(file);
        assert_eq!(both.redis_user.as_deref(), Some("u"));
        assert_eq!((both.password, both.redis_password_file), (None, Some("flag".into())));
        assert_eq!(both.redis_ca, Some("ca".into()));
    }

    #[test]
    fn what_cannot_work_is_told_without_the_password() {
        let base = Access {
            password: Some(Secret::new("hush")),
            ..Access::default()
        };
        let with = |change: fn(&mut Access)| {
            let mut access = base.clone();
            change(&mut access);
            access
        };
        for (url, access, reason) in [
            ("redis://h/", with(|a| a.redis_ca = Some("/none".into())), "rediss://"),
            (
                "rediss://h/",
                with(|a| a.redis_ca = Some("/none".into())),
                "cannot read /none",
            ),
            ("rediss://h/", with(|a| a.redis_cert = Some("/none".into())), "both"),
            (
                "redis://h/",
                with(|a| a.redis_password_file = Some("/none".into())),
                "cannot read the password from /none",
            ),
        ] {
            let error = LinkConfig::from_url(url)
                .unwrap()
                .with_access(&access)
                .unwrap_err()
                .to_string();
            assert!(error.contains(reason) && !error.contains("hush"), "{error}");
        }
        assert!(!format!("{base:?}").contains("hush"));
    }

    #[test]
    fn a_password_in_the_arguments_is_noticed() {
        let noticed = |argument: &str| note_on_arguments([argument.to_owned()].into_iter()).is_some();
        for shows in ["redis://u:p@h/", "--redis-url=rediss://:p@h", "redis://u:p@h1,h2/m"] {
            assert!(noticed(shows), "{shows}");
        }
        for hides in [
            "redis://h/",
            "redis://u@h/",
            "redis://u:@h/",
            "a:b@c",
            "redis://h/x:y@z",
        ] {
            assert!(!noticed(hides), "{hides}");
        }
    }
}
