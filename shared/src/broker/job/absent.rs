//! What it means that outputs are not there: nobody wanted them, a chunk was lost, a map left nothing, or they are gone.
//!
//! Invariant: asked for only when some are not there, so a job that has lost nothing pays nothing. A reduce that is still wanted
//! is judged by what cannot change under it: all that it reads has ended, and stays until it is done.

use redis::{Pipeline, Value};

use crate::broker::{Queue, reply};
use crate::error::Error;
use crate::job::{Form, Member};
use crate::name::JobId;

/// Why outputs are not there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Absent {
    /// Who asks is not wanted any more: its job has ended, or its copy was faster.
    Unwanted,
    /// All is as it has to be but for these: places in the list of those that were asked for.
    Gone(Vec<usize>),
}

/// An output by its name in `data`: `<level>.<node>` of a fold, `<partition>.<chunk>` of a keyed job.
fn halves(name: &str) -> (&str, &str) {
    name.split_once('.').unwrap_or((name, ""))
}

/// Whether a map whose mark this is left something for this partition. See `mark_of` in `lua/job_settle.lua`.
fn left_something(mark: &str, partition: &str) -> bool {
    let (but, listed) = mark.split_at_checked(1).unwrap_or(("+", ""));
    listed.split(',').any(|name| name == partition) == (but == "+")
}

fn words(value: Value) -> Result<Vec<Option<String>>, Error> {
    let word = |value| match value {
        Value::Nil => Ok(None),
        other => reply::string(other).map(Some),
    };
    reply::array(value)?.into_iter().map(word).collect()
}

impl Queue {
    /// Why the outputs of these names, of those that `member` of this start of the job reads, are not there.
    ///
    /// # Errors
    /// As [`Error`] sorts them.
    pub async fn job_absent(
        &self,
        job: &JobId,
        epoch: u64,
        member: Member,
        form: Form,
        names: &[String],
    ) -> Result<Absent, Error> {
        let key = |part| self.keys.job_key(job, part);
        let chunks: Vec<&str> = names.iter().map(|name| halves(name).1).collect();
        let marks: Vec<String> = chunks.iter().map(|chunk| format!("m.{chunk}")).collect();
        let mut asked = Pipeline::with_capacity(3 + names.len());
        let fields = ["epoch", "counted", "maps_done", "reduces_done"];
        asked.cmd("HMGET").arg(key("")).arg(&fields);
        asked.cmd("HMGET").arg(key(":data")).arg(&marks);
        // One by one: ZMSCORE is nothing that the rules of a consumer allow.
        for chunk in &chunks {
            asked.cmd("ZSCORE").arg(key(":failed")).arg(chunk);
        }
        // The last: who is wanted now was wanted when the others were read.
        asked.cmd("HMGET").arg(key(":live")).arg(member.to_string());
        let mut answers = self.link.pipeline(&asked).await?.into_iter();
        let mut next = || {
            let missing = || Error::Protocol("an answer is missing".to_owned());
            answers.next().ok_or_else(missing)?
        };
        let (record, marks) = (words(next()?)?, words(next()?)?);
        let lost = (0..names.len())
            .map(|_| Ok(next()? != Value::Nil))
            .collect::<Result<Vec<bool>, Error>>()?;
        let live = words(next()?)?;
        let number = |at: usize| -> u64 {
            record
                .get(at)
                .cloned()
                .flatten()
                .and_then(|n| n.parse().ok())
                .unwrap_or(0)
        };
        if number(0) != epoch || live.first().is_none_or(Option::is_none) {
            return Ok(Absent::Unwanted);
        }
        // What an earlier release settled left no mark: nobody can tell, and it is taken for nothing, as then.
        let all_marked = number(1) == number(2) + number(3);
        let is_gone = |at: &usize| {
            let (before, _) = halves(&names[*at]);
            let is_lost = lost[*at];
            match (form, marks.get(*at).cloned().flatten()) {
                (Form::Fold { .. }, _) => all_marked && (before != "0" || !is_lost),
                (Form::Keyed { .. }, Some(mark)) => left_something(&mark, before),
                (Form::Keyed { .. }, None) => all_marked && !is_lost,
            }
        };
        Ok(Absent::Gone((0..names.len()).filter(is_gone).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::left_something;

    #[test]
    fn a_mark_says_of_each_partition_whether_something_was_left_for_it() {
        for (mark, there) in [
            ("+", [false; 3]),
            ("+2,10", [true, true, false]),
            ("-1", [true, true, false]),
            ("-", [true; 3]),
        ] {
            let of = ["2", "10", "1"].map(|partition| left_something(mark, partition));
            assert_eq!(of, there, "{mark}");
        }
    }
}
