//! A command as a map, combine or reduce function of a job.
//!
//! Invariant: whatever the program writes, its output is one JSON value a line (a pair a line in the
//! keyed form), or the task fails for good with the number of the line.

use super::super::result::is_json;
use super::{Ask, CommandHandler, argv, exchange};
use crate::config::{Output, Records};
use crate::stage::blocking::by_length;
use crate::stage::{MAX_BYTES, lines};
use crate::{BoxFuture, Failure, Stage, StageContext, StageInput};

impl Stage for CommandHandler {
    fn run(&self, ctx: StageContext, input: StageInput) -> BoxFuture<Result<Vec<u8>, Failure>> {
        let Self { config, timeout } = self.clone();
        Box::pin(async move {
            let args = argv::expand(&config.args, ctx.args.as_bytes(), config.allow_dash_args)
                .map_err(|reason| Failure::fatal(reason.replacen("payload field", "argument", 1)))?;
            let text = config.records == Records::Text;
            let (input, ctx) = by_length(input.bytes(), move || {
                let input = if text {
                    input.into_text_lines(&ctx)?
                } else {
                    input.into_json_lines(&ctx)?
                };
                Ok((input, ctx))
            })
            .await?;
            let ask = Ask {
                args,
                env: &[
                    ("WORKYARD_ARGS", &ctx.args),
                    ("WORKYARD_STAGE", ctx.role.as_str()),
                    ("WORKYARD_FORM", ctx.form.as_str()),
                ],
                input,
                limit: usize::try_from(MAX_BYTES)?,
            };
            let out = exchange(&config, timeout, &ctx.task, ask).await?;
            let rules = Rules {
                output: config.output,
                tabs: text && ctx.is_keyed(),
                keyed: ctx.is_keyed(),
            };
            by_length(out.len(), move || rules.apply(&out)).await
        })
    }
}

/// What lines of output count as.
struct Rules {
    output: Output,
    /// Whether `key<TAB>value` is a pair.
    tabs: bool,
    keyed: bool,
}

impl Rules {
    fn apply(&self, output: &[u8]) -> Result<Vec<u8>, Failure> {
        let mut out = Vec::with_capacity(output.len() + output.len() / 4);
        for (at, line) in lines::of(output).enumerate() {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            self.line(line, &mut out).map_err(|reason| {
                let shown: String = String::from_utf8_lossy(line).chars().take(80).collect();
                Failure::fatal(format!("line {} of standard output {reason}: {shown}", at + 1))
            })?;
        }
        Ok(out)
    }

    fn line(&self, line: &[u8], out: &mut Vec<u8>) -> Result<(), &'static str> {
        let json = self.output != Output::Text && is_json(line);
        let pair = self.keyed && json && line.trim_ascii_start().starts_with(b"[");
        if !pair && self.tabs {
            return tabbed(line, out);
        }
        if self.keyed && !pair {
            return Err("is no pair [\"key\",value]");
        }
        if json {
            out.extend_from_slice(line.trim_ascii());
        } else if self.output == Output::Json {
            return Err("is not JSON, as `output` demands");
        } else {
            append_text(line, out)?;
        }
        out.push(b'\n');
        Ok(())
    }
}

/// Appends the pair that a line `key<TAB>value` is.
fn tabbed(line: &[u8], out: &mut Vec<u8>) -> Result<(), &'static str> {
    let tab = line.iter().position(|byte| *byte == b'\t');
    let (key, value) = line.split_at(tab.ok_or("is no pair: neither [\"key\",value] nor key<TAB>value")?);
    let value = &value[1..];
    out.push(b'[');
    append_text(key, out)?;
    out.push(b',');
    if is_json(value) {
        out.extend_from_slice(value.trim_ascii());
    } else {
        append_text(value, out)?;
    }
    out.extend_from_slice(b"]\n");
    Ok(())
}

fn append_text(text: &[u8], out: &mut Vec<u8>) -> Result<(), &'static str> {
    lines::append(out, &*String::from_utf8_lossy(text)).map_err(|_| "cannot be written as JSON")
}
