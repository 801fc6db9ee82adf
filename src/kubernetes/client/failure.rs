//! Why a call failed, and what to look at.

use std::{error::Error as StdError, fmt, io, iter, time::Duration};

use chain::{Code, Error, Result};

use super::calls::Server;

/// What is asked of the API server.
pub struct Asked<'a> {
    verb: &'static str,
    resource: &'a str,
    group: &'a str,
    namespace: &'a str,
    name: &'a str,
}

impl<'a> Asked<'a> {
    /// `resource` is the plural with the subresource, `group` is empty for the core group.
    ///
    /// Errors (7): namespace or name are none that Kubernetes allows. They become part of a URL, and a pod may say them.
    pub fn new(
        verb: &'static str,
        resource: &'a str,
        group: &'a str,
        namespace: &'a str,
        name: &'a str,
    ) -> Result<Self> {
        for (what, text) in [("namespace", namespace), ("name", name)] {
            if !is_name(text) {
                return Err(Error::config(format!(
                    "{verb} {resource}: {what} {text:?} is none that Kubernetes allows: it has to be of lower-case \
                     letters, digits, '-' and '.', at most 253"
                )));
            }
        }
        Ok(Self { verb, resource, group, namespace, name })
    }
}

/// RFC 1123 subdomain, which each object's name is (some kinds allow less).
fn is_name(text: &str) -> bool {
    let outer = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let label = |label: &str| {
        label.bytes().all(|byte| outer(byte) || byte == b'-')
            && label.bytes().next().is_some_and(outer)
            && label.bytes().last().is_some_and(outer)
    };
    text.len() <= 253 && text.split('.').all(label)
}

impl fmt::Display for Asked<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}/{}", self.verb, self.resource, self.namespace, self.name)
    }
}

/// Why one attempt failed.
pub enum Cause {
    /// The server refused, or could not be reached.
    Kube(kube::Error),
    /// No answer came within this time.
    Silence(Duration),
}

impl From<kube::Error> for Cause {
    fn from(error: kube::Error) -> Self {
        Self::Kube(error)
    }
}

impl Cause {
    /// The HTTP status of a refusal.
    pub fn code(&self) -> Option<u16> {
        match self {
            Self::Kube(kube::Error::Api(status)) => Some(status.code),
            _ => None,
        }
    }

    /// Whether no connection came about, or one broke.
    pub fn is_of_the_connection(&self) -> bool {
        matches!(self, Self::Kube(kube::Error::Service(_) | kube::Error::HyperError(_)))
    }

    /// Whether another attempt may do better.
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Silence(_) => true,
            // A conflict of two writers: a patch holds for whatever the other one wrote.
            Self::Kube(kube::Error::Api(status)) if status.code == 409 => {
                status.reason != "AlreadyExists" && !self.is_another_uid()
            }
            _ if self.code().is_some() => {
                matches!(self.code(), Some(408 | 429 | 500 | 502 | 503 | 504))
            }
            _ => self.is_of_the_connection() && !self.is_of_the_certificate(),
        }
    }

    /// Whether a patch was refused since the object's UID is another. The API server says so either by its rules for
    /// changes (422, from 1.20 on), or where its storage sees it first (409).
    pub fn is_another_uid(&self) -> bool {
        let Self::Kube(kube::Error::Api(status)) = self else { return false };
        let mut causes = status.details.iter().flat_map(|details| &details.causes);
        match status.code {
            409 => status.message.contains("UID in precondition"),
            422 => causes.any(|cause| cause.field == "metadata.uid"),
            _ => false,
        }
    }

    /// How long the server wants to be left alone.
    pub fn retry_after(&self) -> Duration {
        match self {
            Self::Kube(kube::Error::Api(status)) => Duration::from_secs(
                status.details.as_ref().map_or(0, |details| details.retry_after_seconds.into()),
            ),
            _ => Duration::ZERO,
        }
    }

    /// Whether server and client do not agree over TLS.
    fn is_of_the_certificate(&self) -> bool {
        let Self::Kube(error) = self else { return false };
        // As tokio-rustls passes on what rustls says.
        chain(error).any(|cause| {
            let cause = cause.downcast_ref::<io::Error>();
            cause.is_some_and(|cause| cause.kind() == io::ErrorKind::InvalidData)
        })
    }
}

/// An error and what caused it, outermost first.
fn chain<'e>(
    error: &'e (dyn StdError + 'static),
) -> impl Iterator<Item = &'e (dyn StdError + 'static)> {
    iter::successors(Some(error), |&error| match error.downcast_ref::<io::Error>() {
        // Its source is that of the error within, which would be left out.
        Some(outer) => outer.get_ref().map(|within| within as &(dyn StdError + 'static)),
        None => error.source(),
    })
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Silence(time) => write!(f, "no answer within {:.1} s", time.as_secs_f32()),
            Self::Kube(kube::Error::Api(status)) => {
                write!(f, "{} ({})", status.message, status.code)
            }
            // The innermost says what happened: "Connection refused"; those around it, that something did.
            Self::Kube(error) => match chain(error).last() {
                Some(innermost) => write!(f, "{innermost}"),
                None => write!(f, "{error}"),
            },
        }
    }
}

/// A call that failed for good.
pub struct Failure {
    cause: Cause,
    error: Error,
}

impl Failure {
    /// `tries` and `time`: what was spent on it.
    pub fn new(
        server: &Server,
        asked: &Asked<'_>,
        cause: Cause,
        tries: u32,
        time: Duration,
    ) -> Self {
        let effort = match tries {
            0 | 1 => String::new(),
            _ => format!(" (tried {tries} times in {:.1} s)", time.as_secs_f32()),
        };
        let msg = format!("{server}: {asked}: {cause}{effort}");
        let source = server.source();
        let hint = match cause.code() {
            Some(401) => format!(
                "the credentials of {source} are refused, also when read again: renew their token or certificate"
            ),
            Some(403) => format!(
                "grant its account the verb {:?} on {:?} of API group {:?}, as deploy/ does",
                asked.verb, asked.resource, asked.group
            ),
            Some(_) => String::new(),
            None if cause.is_of_the_certificate() => {
                format!("the server's certificate has to be signed by the authority in {source}")
            }
            None if cause.is_of_the_connection() || matches!(cause, Cause::Silence(_)) => format!(
                "look whether the API server runs, and whether this node reaches the address in {source}"
            ),
            None => String::new(),
        };
        Self { cause, error: Error::new(Code::TryAgain, msg).with_details(hint) }
    }

    /// The HTTP status of a refusal.
    pub fn code(&self) -> Option<u16> {
        self.cause.code()
    }

    /// Whether a patch was refused since the object's UID is another.
    pub fn is_another_uid(&self) -> bool {
        self.cause.is_another_uid()
    }

    /// Whether the refusal is about an object, not about the path as such.
    pub fn is_of_an_object(&self) -> bool {
        match &self.cause {
            Cause::Kube(kube::Error::Api(status)) => {
                status.details.as_ref().is_some_and(|details| !details.name.is_empty())
            }
            _ => false,
        }
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        failure.error
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// What comes of a refusal with this `Status`.
    fn refusal(status: Value) -> Cause {
        Cause::Kube(kube::Error::Api(Box::new(serde_json::from_value(status).unwrap())))
    }

    #[test]
    fn a_patch_for_another_uid_is_known_however_the_server_says_it() {
        let cause = json!({ "field": "metadata.uid", "reason": "FieldValueInvalid" });
        let by_rule = json!({ "code": 422, "reason": "Invalid", "details": { "causes": [cause] } });
        let by_storage = "Operation cannot be fulfilled on pods \"web\": Precondition failed: UID in precondition: a, \
                          UID in object meta: b";
        let by_storage = json!({ "code": 409, "reason": "Conflict", "message": by_storage });
        for status in [by_rule, by_storage] {
            let cause = refusal(status);
            assert!(cause.is_another_uid() && !cause.may_pass(), "{cause}");
        }

        let by_writer =
            "Operation cannot be fulfilled on pods \"web\": the object has been modified";
        let by_writer = json!({ "code": 409, "reason": "Conflict", "message": by_writer });
        let cause = refusal(by_writer);
        assert!(!cause.is_another_uid() && cause.may_pass());
        assert!(!refusal(json!({ "code": 409, "reason": "AlreadyExists" })).may_pass());
    }

    #[test]
    fn a_server_says_how_long_it_wants_to_be_left_alone() {
        let cause = refusal(json!({ "code": 429, "details": { "retryAfterSeconds": 3 } }));
        assert!(cause.may_pass());
        assert_eq!(cause.retry_after(), Duration::from_secs(3));
        assert_eq!(Cause::Silence(Duration::ZERO).retry_after(), Duration::ZERO);
    }
}
