//! A job, part by part.
//!
//! Invariant: a mistake on the way is kept and told by [`MapReduce::submit`], before anything is sent, so that the chain
//! needs no `?` in between.

use std::fs::File;
use std::time::Duration;

use serde::Serialize;
use workyard_shared::Error as CallError;
use workyard_shared::crypto::job::JobBinding;
use workyard_shared::job::{DEFAULT_FAN_IN, Form, Function, JobSpec, Policy};
use workyard_shared::limits::{MAX_PAYLOAD_BYTES, MAX_SEALED_BYTES};
use workyard_shared::name::{JobId, Kind, QueueName};
use workyard_shared::options::TaskOptions;
use workyard_shared::trace_context::{TRACEPARENT, TraceContext};

use super::files::FileFormat;
use super::handle::JobHandle;
use super::identity::Identity;
use super::input::Input;
use super::scan::ItemFormat;
use super::submit::{Seal, Submission};
use crate::client::Client;
use crate::durability::Durability;
use crate::error::Error;
use crate::trace::inject_current;

/// A map-reduce job in the making; see [`Client::map_reduce`].
#[derive(Debug)]
#[must_use = "a job that is not submitted does nothing"]
pub struct MapReduce {
    client: Client,
    queue: QueueName,
    id: Result<JobId, CallError>,
    own_id: bool,
    spec: Result<JobSpec, CallError>,
    fan_in: Option<Option<u32>>,
    partitions: Option<u32>,
    combine: Option<Result<Kind, CallError>>,
    combine_args: Option<String>,
    input: Option<Input>,
    chunk_size: Option<u64>,
    wrong: Option<CallError>,
}

impl Client {
    /// Begins a map-reduce job: `map` and `reduce` are kinds, those of the consumers' stages and handlers or the
    /// built-in ones. A fold unless [`MapReduce::keyed`].
    ///
    /// ```no_run
    /// use std::time::Duration;
    /// use workyard_producer::{Client, ClientConfig, FileFormat, QueueName};
    ///
    /// # async fn example() -> Result<(), workyard_producer::Error> {
    /// let client = Client::new(ClientConfig::from_url("redis://127.0.0.1/")?)?;
    /// let queue = QueueName::new("default")?;
    ///
    /// let sum = client.map_reduce(&queue, "sum", "sum").items(1..=1000).submit().await?;
    /// sum.wait_completed(Duration::from_secs(60)).await?;
    /// assert_eq!(sum.result::<u64>().await?, Some(500_500));
    ///
    /// let words = client
    ///     .map_reduce(&queue, "word-count", "sum-by-key")
    ///     .keyed(8)
    ///     .combine("sum-by-key")
    ///     .files(["docs/**/*.md"], Some(FileFormat::Lines))
    ///     .allow_failures_percent(1.0)
    ///     .submit()
    ///     .await?;
    /// words.wait_completed(Duration::from_secs(60)).await?;
    /// let mut pairs = words.pairs::<String, u64>().await?;
    /// while let Some((word, count)) = pairs.next().await? {
    ///     println!("{word} {count}");
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn map_reduce(&self, queue: &QueueName, map: impl AsRef<str>, reduce: impl AsRef<str>) -> MapReduce {
        let spec = Kind::new(map).and_then(|map| Ok(JobSpec::new(Form::fold(), map, Kind::new(reduce)?)));
        MapReduce {
            client: self.clone(),
            queue: queue.clone(),
            id: Ok(JobId::fresh()),
            own_id: false,
            spec,
            fan_in: None,
            partitions: None,
            combine: None,
            combine_args: None,
            input: None,
            chunk_size: None,
            wrong: None,
        }
    }
}

impl MapReduce {
    /// Pairs, reduced key by key in so many partitions.
    pub fn keyed(mut self, partitions: u32) -> Self {
        self.partitions = Some(partitions);
        self
    }

    /// Children of a node of the tree; 32 unless set. For the fold form.
    pub fn fan_in(mut self, children: u32) -> Self {
        self.fan_in = Some(Some(children));
        self
    }

    /// One reduce over all partials.
    pub fn fan_in_all(mut self) -> Self {
        self.fan_in = Some(None);
        self
    }

    /// Folds the pairs of one chunk before they are stored. For the keyed form.
    pub fn combine(mut self, kind: impl AsRef<str>) -> Self {
        self.combine = Some(Kind::new(kind));
        self
    }

    /// Values: anything that serde can write as JSON; a [`crate::RawJson`] is kept byte for byte.
    pub fn items<I>(mut self, items: I) -> Self
    where
        I: IntoIterator<Item: Serialize, IntoIter: Send + 'static>,
    {
        let items = items.into_iter();
        self.input = Some(Input::Items(Box::new(move |spool| {
            for (number, item) in (1_u64..).zip(items) {
                let json = serde_json::to_vec(&item)
                    .map_err(|e| Error::invalid(format!("item {number} cannot be written as JSON: {e}")))?;
                spool.push(&json, || format!("item {number}"))?;
            }
            Ok(())
        })));
        self
    }

    /// The values in a file, from its start.
    pub fn items_file(mut self, file: File, format: ItemFormat) -> Self {
        self.input = Some(Input::ItemFile(file, format));
        self
    }

    /// Files that the consumers see under the same names: paths, globs, `s3://bucket/prefix*`. Without a format, the
    /// endings of their names tell; they must agree.
    pub fn files(mut self, patterns: impl IntoIterator<Item: Into<String>>, format: Option<FileFormat>) -> Self {
        let patterns = patterns.into_iter().map(Into::into).collect();
        if let Some(FileFormat::Csv { delimiter }) = format
            && (!delimiter.is_ascii() || matches!(delimiter, '"' | '\n' | '\r'))
        {
            self.wrong = Some(CallError::Invalid(
                "a delimiter must be an ASCII character, no quote".to_owned(),
            ));
        }
        self.input = Some(Input::Files(patterns, format));
        self
    }

    /// Items of a chunk, or of files about how many bytes.
    pub fn chunk_size(mut self, size: u64) -> Self {
        self.chunk_size = Some(size);
        self
    }

    /// Arguments of the map function: an object.
    pub fn map_args<T: Serialize + ?Sized>(self, args: &T) -> Self {
        let args = self.json(args);
        self.with(args, |spec, args| spec.map.args = args)
    }

    /// Arguments of the reduce function: an object.
    pub fn reduce_args<T: Serialize + ?Sized>(self, args: &T) -> Self {
        let args = self.json(args);
        self.with(args, |spec, args| spec.reduce.args = args)
    }

    /// Arguments of the combine function: an object.
    pub fn combine_args<T: Serialize + ?Sized>(mut self, args: &T) -> Self {
        match self.json(args) {
            Ok(args) => self.combine_args = Some(args),
            Err(error) => self.wrong = Some(error),
        }
        self
    }

    /// Longest run of one attempt of a map task.
    pub fn map_timeout(self, timeout: Duration) -> Self {
        self.change(|spec| spec.map_options.timeout = Some(timeout))
    }

    /// Longest run of one attempt of a reduce task.
    pub fn reduce_timeout(self, timeout: Duration) -> Self {
        self.change(|spec| spec.reduce_options.timeout = Some(timeout))
    }

    /// Failures after which a task of the job has failed for good; 3 unless set.
    pub fn max_attempts(self, attempts: u32) -> Self {
        self.change(|spec| {
            spec.map_options.max_attempts = Some(attempts);
            spec.reduce_options.max_attempts = Some(attempts);
        })
    }

    /// Every option of the map tasks and of the reduce tasks, for those without a method of their own.
    pub fn options(self, change: impl FnOnce(&mut TaskOptions, &mut TaskOptions)) -> Self {
        self.change(|spec| change(&mut spec.map_options, &mut spec.reduce_options))
    }

    /// So many chunks may be lost; none unless set.
    pub fn allow_failures(self, chunks: u64) -> Self {
        self.policy(if chunks == 0 {
            Policy::FailFast
        } else {
            Policy::Allow(chunks)
        })
    }

    /// So many of a hundred chunks may be lost.
    pub fn allow_failures_percent(mut self, percent: f64) -> Self {
        if !(0.0..=100.0).contains(&percent) {
            self.wrong = Some(CallError::Invalid(format!(
                "{percent}% of the chunks cannot be lost; give 0 to 100"
            )));
        }
        self.policy(Policy::AllowPercent(percent))
    }

    /// How many chunks may be lost.
    pub fn policy(self, policy: Policy) -> Self {
        self.change(|spec| spec.policy = policy)
    }

    /// Whether slow tasks get backup copies; they do unless set.
    pub fn backups(self, backups: bool) -> Self {
        self.change(|spec| spec.backups = backups)
    }

    /// Bytes of intermediate data in Redis; 256 MiB unless set.
    pub fn budget(self, bytes: u64) -> Self {
        self.change(|spec| spec.budget = bytes)
    }

    /// Where intermediate data beyond the budget goes: `file:///folder` or `s3://bucket/prefix`, shared by all consumers.
    pub fn spill(self, place: impl Into<String>) -> Self {
        self.change(|spec| spec.spill = Some(place.into()))
    }

    /// How long record and result stay after the end; 24 hours unless set.
    pub fn retention(self, retention: Duration) -> Self {
        self.change(|spec| spec.retention = retention)
    }

    /// What the input is, for people.
    pub fn describe(self, input: impl Into<String>) -> Self {
        self.change(|spec| spec.input = input.into())
    }

    /// A header of every task of the job. All together may have 2 KiB.
    pub fn header(self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.change(|spec| drop(spec.headers.insert(name.into(), value.into())))
    }

    /// The span that the spans of the job's tasks are below, as the W3C `traceparent` that others hand on. With the feature
    /// `otel` it is the current span of OpenTelemetry otherwise.
    pub fn trace_parent(self, traceparent: impl Into<String>) -> Self {
        let context = TraceContext::new(traceparent);
        self.with(context, |spec, context| {
            spec.headers
                .insert(TRACEPARENT.to_owned(), context.traceparent().to_owned());
        })
    }

    /// An id of the caller's own; a UUIDv7 is made otherwise. The same call with the same id is the same job: one that
    /// broke off goes on, one that runs or has ended is answered as it is. Another call with this id is refused.
    pub fn id(mut self, id: impl AsRef<str>) -> Self {
        self.id = JobId::new(id);
        self.own_id = true;
        self
    }

    /// Checks everything, cuts the input into chunks and sends them. Outages are waited out as long as the client's
    /// patience. A client whose keys seal seals chunks and arguments, and consumers with the keys what they make of them.
    /// What is submitted is in Redis' memory, and on disk as its settings say: a job waits for no replica.
    ///
    /// # Errors
    /// [`Error::Call`] with `Invalid` if a part or the input is wrong, or the client asks for a level of durability: nothing was sent. [`Error::JobExists`] if another call
    /// made a job of this id. Others as [`Client::enqueue`].
    pub async fn submit(mut self) -> Result<JobHandle, Error> {
        let id = self.id.clone()?;
        if self.client.durability != Durability::Memory {
            return Err(Error::invalid(
                "a job is submitted without waiting for a level of durability: use a client without with_durability",
            ));
        }
        let keys = self.client.inner.config.keys.clone().filter(|keys| keys.seals());
        let input = self.input.take();
        let mut spec = self.spec()?;
        let input = input.ok_or_else(|| Error::invalid("a job needs an input: items or files"))?;
        if let Some(words) = input.words().filter(|_| spec.input.is_empty()) {
            spec.input = words;
        }
        inject_current(&mut spec.headers);
        spec.validate()?;
        let most_of_chunk = if keys.is_some() {
            MAX_SEALED_BYTES
        } else {
            MAX_PAYLOAD_BYTES
        };
        let mut ready = input.prepare(most_of_chunk).await?;
        let mut identity = None;
        if self.own_id {
            let (spec, chosen, keys) = (spec.clone(), self.chunk_size, keys.clone());
            let known = tokio::task::spawn_blocking(move || {
                let secret = keys.as_ref().and_then(|keys| keys.mark());
                Identity::of(&spec, &ready, chosen, secret).map(|it| (it, ready))
            });
            let known = known
                .await
                .map_err(|e| Error::invalid(format!("the input cannot be read: {e}")))??;
            (identity, ready) = (Some(known.0), known.1);
        }
        let size = match self.chunk_size {
            Some(0) => return Err(Error::invalid("a chunk must have at least 1 item or byte")),
            Some(size) => size,
            None => ready.chunk_size(self.client.slots(&self.queue).await?),
        };
        ready.check_size(size)?;
        let seal = keys.map(|keys| Seal {
            job: JobBinding::new(&self.queue, &id, &spec),
            keys,
        });
        if let Some(seal) = &seal {
            seal.keys.seal_arguments(&seal.job, &mut spec)?;
            spec.validate()?;
        }
        let gate = self.client.gate(&self.queue);
        self.client.announce(&gate).await;
        let submission = Submission {
            client: &self.client,
            queue: gate.queue.clone(),
            id: id.clone(),
            spec,
            ready,
            size,
            identity,
            seal,
        };
        let joined = Box::pin(submission.run()).await?;
        Ok(self.client.job(&self.queue, &id).joining(joined))
    }

    /// The parts as one.
    fn spec(&mut self) -> Result<JobSpec, Error> {
        if let Some(wrong) = self.wrong.take() {
            return Err(wrong.into());
        }
        let mut spec = self.spec.clone()?;
        let combine = self.combine.take().transpose()?;
        spec.form = match (self.partitions, self.fan_in) {
            (Some(_), Some(_)) => {
                return Err(Error::invalid(
                    "a fan-in is for the fold form; the keyed form has partitions",
                ));
            }
            (Some(partitions), None) => Form::Keyed { partitions },
            (None, fan_in) => Form::Fold {
                fan_in: fan_in.unwrap_or(Some(DEFAULT_FAN_IN)),
            },
        };
        if combine.is_none() && self.combine_args.is_some() {
            return Err(Error::invalid("there are arguments for a combiner, but no combiner"));
        }
        spec.combine = combine.map(|kind| Function {
            kind,
            args: self.combine_args.take().unwrap_or_else(|| "{}".to_owned()),
        });
        Ok(spec)
    }

    fn json<T: Serialize + ?Sized>(&self, args: &T) -> Result<String, CallError> {
        serde_json::to_string(args).map_err(|e| CallError::Invalid(format!("arguments that cannot be JSON: {e}")))
    }

    fn with<T>(mut self, value: Result<T, CallError>, set: impl FnOnce(&mut JobSpec, T)) -> Self {
        match (&mut self.spec, value) {
            (Ok(spec), Ok(value)) => set(spec, value),
            (_, Err(error)) => self.wrong = Some(error),
            (Err(_), Ok(_)) => {}
        }
        self
    }

    fn change(self, set: impl FnOnce(&mut JobSpec)) -> Self {
        self.with(Ok(()), |spec, ()| set(spec))
    }
}
