//! Requests, repeated while that may help, and with an end.

use std::{
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use backon::{ExponentialBuilder, Retryable};
use chain::Result;
use kube::Client;
use tokio::time::timeout;

use super::{
    Source,
    failure::{Asked, Cause, Failure},
};

/// How long an answer may take before the request is made anew.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);

/// An API server and the credentials for it.
pub struct Server {
    source: Source,
    url: String,
    current: Mutex<Current>,
}

/// The client in use.
#[derive(Clone)]
struct Current {
    client: Client,
    /// Goes up each time that the credentials are read.
    generation: u64,
}

impl Server {
    /// The API server of this source. Has to be called within a runtime.
    pub async fn new(source: Source) -> Result<Self> {
        let (client, url) = source.client().await?;
        let current = Mutex::new(Current { client, generation: 0 });
        Ok(Self { source, url, current })
    }

    /// The client as it is now.
    pub fn client(&self) -> Client {
        self.current().client.clone()
    }

    /// The client with the credentials read anew, or as it is where they cannot be read.
    pub async fn renewed(&self) -> Client {
        let generation = self.current().generation;
        self.renew(generation).await;
        self.client()
    }

    /// Makes a request until it is answered, or refused for good, or `limit` is over.
    pub async fn call<T, F: Future<Output = Result<T, kube::Error>>>(
        &self,
        asked: &Asked<'_>,
        limit: Duration,
        request: impl Fn(Client) -> F,
    ) -> Result<T, Failure> {
        let started = Instant::now();
        let mut tries = 0;
        let pauses = ExponentialBuilder::default()
            .with_min_delay(Duration::from_millis(50))
            .with_max_delay(Duration::from_secs(1))
            .with_jitter()
            .without_max_times();
        let outcome = (|| self.attempt(limit.saturating_sub(started.elapsed()), &request))
            .retry(pauses)
            .when(|cause: &Cause| {
                tries += 1;
                cause.may_pass()
            })
            .adjust(|cause, pause| {
                let pause = pause?.max(cause.retry_after());
                (started.elapsed() + pause < limit).then_some(pause)
            })
            .notify(|cause, pause| {
                tracing::debug!("{self}: {asked}: {cause}; again in {pause:?}");
            })
            .await;
        outcome.map_err(|cause| Failure::new(self, asked, cause, tries, started.elapsed()))
    }

    /// One attempt, and another one with credentials read anew where they are refused.
    async fn attempt<T, F: Future<Output = Result<T, kube::Error>>>(
        &self,
        limit: Duration,
        request: &impl Fn(Client) -> F,
    ) -> Result<T, Cause> {
        let limit = limit.min(ANSWER_LIMIT);
        let current = self.current().clone();
        let answer = answered(limit, request(current.client)).await;
        match &answer {
            Err(cause) if cause.code() == Some(401) && self.renew(current.generation).await => {
                answered(limit, request(self.client())).await
            }
            Err(cause) if cause.is_of_the_connection() => {
                // The server's address or certificate may have changed, for the next attempt.
                self.renew(current.generation).await;
                answer
            }
            _ => answer,
        }
    }

    /// Reads the credentials anew, unless another call has since this generation of them. Whether there are new ones.
    async fn renew(&self, generation: u64) -> bool {
        if self.current().generation != generation {
            return true;
        }
        match self.source.client().await {
            Ok((client, _)) => {
                let mut current = self.current();
                *current = Current { client, generation: current.generation + 1 };
                true
            }
            Err(error) => {
                tracing::warn!("{error}: the credentials read before stay in use");
                false
            }
        }
    }

    /// Where the server and the credentials are written down.
    pub fn source(&self) -> &Source {
        &self.source
    }

    fn current(&self) -> MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What comes of a request within this time.
async fn answered<T>(
    limit: Duration,
    request: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, Cause> {
    match timeout(limit, request).await {
        Ok(answer) => answer.map_err(Cause::from),
        Err(_) => Err(Cause::Silence(limit)),
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Kubernetes API {}", self.url)
    }
}
