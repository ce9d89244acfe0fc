//! OpenMetrics turned into the older text format, for whoever does not ask for OpenMetrics.
//!
//! Invariant: the same samples. Only what the two say of a family differs: the older one names a counter with its
//! `_total`, knows no `info`, no unit and no end mark.

/// Content type of OpenMetrics.
pub const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// Content type of the older format.
pub const PLAIN: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The older format of an OpenMetrics text.
#[must_use]
pub fn plain(open_metrics: &str) -> String {
    let mut out = String::with_capacity(open_metrics.len());
    let mut help = None;
    for line in open_metrics.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            // The type follows, and with it the name.
            help = rest.split_once(' ').map(|(_, text)| text);
        } else if let Some((name, form)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            let (suffix, form) = match form {
                "counter" => ("_total", form),
                "info" => ("_info", "gauge"),
                other => ("", other),
            };
            if let Some(help) = help.take() {
                out.push_str(&format!("# HELP {name}{suffix} {help}\n"));
            }
            out.push_str(&format!("# TYPE {name}{suffix} {form}\n"));
        } else if !line.starts_with('#') {
            out.push_str(line);
            out.push('\n');
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::plain;

    #[test]
    fn counters_are_named_with_their_suffix_and_marks_of_openmetrics_are_left_out() {
        let open = "# HELP a A.\n# TYPE a counter\n# UNIT a seconds\na_total{q=\"# x\"} 1\n\
            # HELP b B.\n# TYPE b info\nb_info{v=\"1\"} 1\n# HELP g G.\n# TYPE g gauge\ng 0.5\n# EOF\n";
        let expected = "# HELP a_total A.\n# TYPE a_total counter\na_total{q=\"# x\"} 1\n\
            # HELP b_info B.\n# TYPE b_info gauge\nb_info{v=\"1\"} 1\n# HELP g G.\n# TYPE g gauge\ng 0.5\n";
        assert_eq!(plain(open), expected);
    }
}
