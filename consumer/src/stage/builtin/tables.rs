//! `histogram` and `sum-by-key`: numbers by bucket or key.

use std::collections::{BTreeMap, HashMap};

use workyard_shared::job::builtin::{Histogram, SumBy};
use workyard_shared::job::{Number, PairKey};

use super::super::{Item, StageContext, StageInput, lines};
use super::number::{Sum, number_in};
use super::{fields, shown, tally, unexpected};
use crate::handler::Failure;

pub(super) fn histogram(ctx: &StageContext, input: &StageInput) -> Result<Vec<u8>, Failure> {
    if !matches!(input, StageInput::Chunk(_)) {
        return Err(unexpected(ctx));
    }
    let args: Histogram = ctx.parse_args()?;
    let no_number = || Failure::fatal(format!("{} is no width", args.width));
    let width = Number::parse(args.width.get()).ok_or_else(no_number)?;
    let mut counts: BTreeMap<Number, u64> = BTreeMap::new();
    input.each(ctx, |number, item| {
        let value = number_of(number, item, args.field.as_deref())?;
        let beyond = || {
            let (value, width) = (value.json(), &args.width);
            let reason = format!("item {number} falls into a bucket beyond what a number can hold");
            Failure::fatal(format!("{reason}: {value}, width {width}"))
        };
        *counts.entry(bucket(value, width).ok_or_else(beyond)?).or_default() += 1;
        Ok(())
    })?;
    let counts = counts.into_iter().map(|(bucket, n)| (bucket.json(), n.to_string()));
    table(ctx, counts.map(|(bucket, n)| (bucket.clone(), bucket, n)))
}

/// The lower end of the bucket that `value` falls into, never above it; `None` if no number can hold that.
fn bucket(value: Number, width: Number) -> Option<Number> {
    if let (Some(below), Number::Int(width)) = (value.floor(), width) {
        let lower = below.div_euclid(width).checked_mul(width)?;
        return Some(Number::Int(lower));
    }
    let width = width.as_float();
    let count = (value.as_float() / width).floor();
    // The sum turns -0 into 0.
    let edge = |count: f64| Number::Float(count * width + 0.0);
    // The quotient is rounded, maybe up to the next whole number.
    let lower = if edge(count) > value {
        edge(count - 1.0)
    } else {
        edge(count)
    };
    lower.as_float().is_finite().then_some(lower)
}

pub(super) fn sum_by_key(ctx: &StageContext, input: &StageInput) -> Result<Vec<u8>, Failure> {
    match input {
        StageInput::Groups(_) => tally::sum(ctx, input),
        StageInput::Chunk(_) => map_by_key(ctx, input),
        StageInput::Values(_) => merge_objects(ctx, input),
    }
}

fn map_by_key(ctx: &StageContext, input: &StageInput) -> Result<Vec<u8>, Failure> {
    let args: SumBy = ctx.parse_args()?;
    let mut sums: HashMap<PairKey, Sum> = HashMap::new();
    input.each(ctx, |number, item| {
        let by = fields::of(number, item, &args.by)?;
        let mut json = Vec::new();
        by.append(&mut json)?;
        let key = PairKey::from_json(std::str::from_utf8(&json)?)
            .map_err(|error| Failure::fatal(format!("item {number}, field \"{}\": {error}", &*args.by)))?;
        sums.entry(key)
            .or_default()
            .add(number_of(number, item, Some(&args.field))?)
    })?;
    let mut sums: Vec<_> = sums.into_iter().collect();
    sums.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
    let rows = sums.into_iter().map(|(key, sum)| {
        let name = Item::Json(key.as_json()).text().into_owned();
        Ok((name, key.as_json().to_owned(), sum.json()?))
    });
    let rows: Vec<_> = rows.collect::<Result<_, Failure>>()?;
    table(ctx, rows.into_iter())
}

fn merge_objects(ctx: &StageContext, input: &StageInput) -> Result<Vec<u8>, Failure> {
    let mut sums: HashMap<String, Sum> = HashMap::new();
    input.each(ctx, |number, item| {
        let mut added = Ok(());
        fields::each(item, |name, json| {
            let one = match (Number::parse(json), sums.get_mut(&*name)) {
                (Some(number), Some(sum)) => sum.add(number),
                (Some(number), None) => sums.entry(name.into_owned()).or_default().add(number),
                (None, _) => Err(Failure::fatal(format!("value {number} has no number in \"{name}\""))),
            };
            added = std::mem::replace(&mut added, Ok(())).and(one);
        })
        .map_err(|failure| Failure::fatal(format!("value {number} is {}", failure.message)))?;
        added
    })?;
    let mut sums: Vec<_> = sums.into_iter().collect();
    sums.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
    let rows = sums.into_iter().map(|(name, sum)| Ok((name, sum.json()?)));
    let mut out = Vec::new();
    object(&mut out, rows.collect::<Result<Vec<_>, Failure>>()?.into_iter())?;
    Ok(out)
}

fn number_of(number: u64, item: Item<'_>, field: Option<&str>) -> Result<Number, Failure> {
    let value = match field {
        Some(name) => fields::of(number, item, name)?,
        None => item,
    };
    number_in(value).ok_or_else(|| Failure::fatal(format!("item {number} has no number: {}", shown(item))))
}

/// Rows of name, key and value: pairs of the last two, or one object of names.
fn table(ctx: &StageContext, rows: impl Iterator<Item = (String, String, String)>) -> Result<Vec<u8>, Failure> {
    let mut out = Vec::new();
    if ctx.is_keyed() {
        for (_, key, value) in rows {
            lines::push_pair(&mut out, &key, &value);
        }
    } else {
        object(&mut out, rows.map(|(name, _, value)| (name, value)))?;
    }
    Ok(out)
}

/// Appends a line with one object, from names and the JSON of their values.
fn object(out: &mut Vec<u8>, rows: impl Iterator<Item = (String, String)>) -> Result<(), Failure> {
    out.push(b'{');
    for (at, (name, value)) in rows.enumerate() {
        if at > 0 {
            out.push(b',');
        }
        lines::append(out, &name)?;
        out.push(b':');
        lines::append_json(out, &value);
    }
    out.extend_from_slice(b"}\n");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_in_a_bucket_that_does_not_begin_above_it() {
        let mut random = fastrand::Rng::with_seed(5);
        for _ in 0..200_000 {
            let width = Number::Float(random.f64() * 10.0 + 1e-3);
            let edge = f64::from(random.i32(-100_000..100_000)) * width.as_float();
            for value in [edge.next_down(), edge, edge.next_up()].map(Number::Float) {
                let lower = bucket(value, width).unwrap();
                assert!(lower <= value, "{value:?} {width:?} {lower:?}");
                assert!(
                    lower.as_float() + 1.001 * width.as_float() > value.as_float(),
                    "{value:?} {width:?}"
                );
            }
        }
        let int = |value, width| bucket(value, Number::Int(width));
        assert_eq!(int(Number::Float(-0.5), 10), Some(Number::Int(-10)));
        assert_eq!(int(Number::Int(i128::MIN), i128::MAX), None);
    }
}
