//! Typed Rust functions as map, combine and reduce functions of jobs.
//!
//! Invariant: they run on tokio's blocking pool, end early between two items when their task is
//! cancelled, and a value that does not fit their type fails the task for good, by its number.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;
use workyard_shared::Error;

use crate::handler::Failure;
use crate::registry::Registry;
use crate::stage::blocking::Pure;
use crate::stage::values::{each_item, each_of_group, each_of_sequence, of_group, push_result, unfit};
use crate::stage::{Emitted, StageContext, StageInput};

/// Where a function of [`Registry::map_pairs`] puts its pairs.
pub struct Emit<K, V> {
    out: Emitted,
    failed: Option<Failure>,
    types: PhantomData<fn(K, V)>,
}

impl<K, V> fmt::Debug for Emit<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Emit").field("bytes", &self.out.len()).finish()
    }
}

impl<K: Serialize, V: Serialize> Emit<K, V> {
    fn new() -> Self {
        Self {
            out: Emitted::default(),
            failed: None,
            types: PhantomData,
        }
    }

    /// Emits a pair. One that cannot be written as JSON fails the task, and so does one too many (a task emits 256 MiB
    /// at most), once the function returns.
    pub fn pair(&mut self, key: K, value: V) {
        if self.failed.is_none() {
            self.failed = self.out.push(&(key, value)).err();
        }
    }
}

impl Registry {
    /// Adds a map function that is called with each item. In the keyed form it returns a pair.
    ///
    /// ```
    /// # use workyard_consumer::{Failure, Registry};
    /// # let mut registry = Registry::new();
    /// registry.map("square", |n: i64| Ok::<_, Failure>(n * n))?;
    /// # Ok::<(), workyard_consumer::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Invalid`] if `kind` is no kind, or has a function.
    pub fn map<T, R, F>(&mut self, kind: &str, function: F) -> Result<&mut Self, Error>
    where
        T: DeserializeOwned + 'static,
        R: Serialize + 'static,
        F: Fn(T) -> Result<R, Failure> + Send + Sync + 'static,
    {
        self.function(kind, false, move |ctx, input| {
            let mut out = Emitted::default();
            each_item(ctx, &input, |item| out.push(&function(item)?))?;
            Ok(out.into_lines())
        })
    }

    /// Adds a map function that is called once, with all items of a chunk, and returns one partial value.
    ///
    /// ```
    /// # use workyard_consumer::{Failure, Registry};
    /// # let mut registry = Registry::new();
    /// registry.map_chunk("sum_of_squares", |items: Vec<i64>| {
    ///     Ok::<i64, Failure>(items.iter().map(|n| n * n).sum())
    /// })?;
    /// # Ok::<(), workyard_consumer::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Self::map`].
    pub fn map_chunk<T, R, F>(&mut self, kind: &str, function: F) -> Result<&mut Self, Error>
    where
        T: DeserializeOwned + 'static,
        R: Serialize + 'static,
        F: Fn(Vec<T>) -> Result<R, Failure> + Send + Sync + 'static,
    {
        self.function(kind, false, move |ctx, input| {
            let mut items = Vec::new();
            each_item(ctx, &input, |item| {
                items.push(item);
                Ok(())
            })?;
            drop(input);
            let mut out = Emitted::default();
            out.push(&function(items)?)?;
            Ok(out.into_lines())
        })
    }

    /// Adds a map function of the keyed form, which emits any number of pairs for each item.
    ///
    /// ```
    /// # use workyard_consumer::{Emit, Failure, Registry};
    /// # let mut registry = Registry::new();
    /// registry.map_pairs("words", |line: String, emit: &mut Emit<String, u64>| {
    ///     for word in line.split_whitespace() {
    ///         emit.pair(word.to_lowercase(), 1);
    ///     }
    ///     Ok(())
    /// })?;
    /// # Ok::<(), workyard_consumer::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Self::map`].
    pub fn map_pairs<T, K, V, F>(&mut self, kind: &str, function: F) -> Result<&mut Self, Error>
    where
        T: DeserializeOwned + 'static,
        K: Serialize + 'static,
        V: Serialize + 'static,
        F: Fn(T, &mut Emit<K, V>) -> Result<(), Failure> + Send + Sync + 'static,
    {
        self.function(kind, false, move |ctx, input| {
            if !ctx.is_keyed() {
                return Err(ctx.misuse("it emits pairs"));
            }
            let mut emit = Emit::new();
            each_item(ctx, &input, |item| {
                function(item, &mut emit)?;
                emit.failed.take().map_or(Ok(()), Err)
            })?;
            Ok(emit.out.into_lines())
        })
    }

    /// Adds a reduce function of two values. It must be associative, `f(f(a, b), c) = f(a, f(b, c))`, and need not be
    /// commutative: values keep their order. A fold also runs it over what a map emits, before
    /// that is stored. In the keyed form it reduces, or combines, the values of each key.
    ///
    /// ```
    /// # use workyard_consumer::{Failure, Registry};
    /// # let mut registry = Registry::new();
    /// registry.reduce("add", |a: i64, b: i64| Ok::<_, Failure>(a + b))?;
    /// # Ok::<(), workyard_consumer::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Self::map`].
    pub fn reduce<T, F>(&mut self, kind: &str, function: F) -> Result<&mut Self, Error>
    where
        T: DeserializeOwned + Serialize + 'static,
        F: Fn(T, T) -> Result<T, Failure> + Send + Sync + 'static,
    {
        self.function(kind, true, move |ctx, input| {
            let join = |so_far: Option<T>, value| match so_far {
                Some(so_far) => function(so_far, value),
                None => Ok(value),
            };
            let mut out = Emitted::default();
            if let StageInput::Groups(groups) = &input {
                groups.each(|group| {
                    let mut total = None;
                    each_of_group(ctx, group, |value| {
                        total = Some(join(total.take(), value)?);
                        Ok(())
                    })?;
                    total.map_or(Ok(()), |total| push_result(&mut out, group, &total))
                })?;
                return Ok(out.into_lines());
            }
            let mut total = None;
            each_of_sequence(ctx, &input, |value| {
                total = Some(join(total.take(), value)?);
                Ok(())
            })?;
            total.map_or(Ok(()), |total| out.push(&total))?;
            Ok(out.into_lines())
        })
    }

    /// Adds a reduce function of all values at once, in their order. In a tree its own results come back to it. In
    /// the keyed form it reduces, or combines, the values of each key.
    ///
    /// ```
    /// # use workyard_consumer::{Failure, Registry};
    /// # let mut registry = Registry::new();
    /// registry.reduce_all("sum_reducer", |values: Vec<i64>| Ok::<i64, Failure>(values.iter().sum()))?;
    /// # Ok::<(), workyard_consumer::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Self::map`].
    pub fn reduce_all<T, R, F>(&mut self, kind: &str, function: F) -> Result<&mut Self, Error>
    where
        T: DeserializeOwned + 'static,
        R: Serialize + 'static,
        F: Fn(Vec<T>) -> Result<R, Failure> + Send + Sync + 'static,
    {
        self.function(kind, false, move |ctx, input| {
            let mut out = Emitted::default();
            if let StageInput::Groups(groups) = &input {
                groups.each(|group| push_result(&mut out, group, &function(of_group(ctx, group)?)?))?;
                return Ok(out.into_lines());
            }
            let mut values = Vec::new();
            each_of_sequence(ctx, &input, |value| {
                values.push(value);
                Ok(())
            })?;
            drop(input);
            out.push(&function(values)?)?;
            Ok(out.into_lines())
        })
    }

    /// Adds a reduce function of the keyed form, called with each key and all of its values. Its result becomes the key's value. If
    /// it takes its own results as values, it can be the combiner too.
    ///
    /// ```
    /// # use workyard_consumer::{Failure, Registry};
    /// # let mut registry = Registry::new();
    /// registry.reduce_pairs("mean", |_word: &String, values: Vec<f64>| {
    ///     Ok::<_, Failure>(values.iter().sum::<f64>() / values.len() as f64)
    /// })?;
    /// # Ok::<(), workyard_consumer::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Self::map`].
    pub fn reduce_pairs<K, V, R, F>(&mut self, kind: &str, function: F) -> Result<&mut Self, Error>
    where
        K: DeserializeOwned + 'static,
        V: DeserializeOwned + 'static,
        R: Serialize + 'static,
        F: Fn(&K, Vec<V>) -> Result<R, Failure> + Send + Sync + 'static,
    {
        self.function(kind, false, move |ctx, input| {
            let StageInput::Groups(groups) = &input else {
                return Err(ctx.misuse("it reduces the values of keys"));
            };
            let mut out = Emitted::default();
            groups.each(|group| {
                let json = group.key.as_json();
                let key = serde_json::from_str(json).map_err(|error| unfit(ctx, &format!("key {json}"), &error))?;
                push_result(&mut out, group, &function(&key, of_group(ctx, group)?)?)
            })?;
            Ok(out.into_lines())
        })
    }

    /// Adds a function from a whole input to JSON lines, on the blocking pool; for what needs the
    /// arguments of the job. See [`crate::Stage`] for what it must return.
    ///
    /// ```
    /// # use workyard_consumer::{Failure, Registry, StageContext, StageInput};
    /// # #[derive(serde::Deserialize)] struct Longest { bytes: usize }
    /// # let mut registry = Registry::new();
    /// registry.stage_fn("short_lines", |ctx: &StageContext, input: StageInput| {
    ///     let longest: Longest = ctx.parse_args()?;
    ///     let mut out = Vec::new();
    ///     input.each(ctx, |_number, item| {
    ///         if item.text().len() <= longest.bytes {
    ///             serde_json::to_writer(&mut out, &item.text())?;
    ///             out.push(b'\n');
    ///         }
    ///         Ok::<(), Failure>(())
    ///     })?;
    ///     Ok(out)
    /// })?;
    /// # Ok::<(), workyard_consumer::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Self::map`].
    pub fn stage_fn<F>(&mut self, kind: &str, function: F) -> Result<&mut Self, Error>
    where
        F: Fn(&StageContext, StageInput) -> Result<Vec<u8>, Failure> + Send + Sync + 'static,
    {
        self.function(kind, false, function)
    }

    fn function<F>(&mut self, kind: &str, folds_parts: bool, function: F) -> Result<&mut Self, Error>
    where
        F: Fn(&StageContext, StageInput) -> Result<Vec<u8>, Failure> + Send + Sync + 'static,
    {
        self.stage(kind, Arc::new(Pure::new(folds_parts, function)))
    }
}
