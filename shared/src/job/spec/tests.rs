//! What a spec accepts, and that it is read as it is written.

use super::*;

fn kind(name: &str) -> Kind {
    Kind::new(name).unwrap()
}

#[test]
fn a_spec_is_read_as_it_is_written() {
    let mut spec = JobSpec::new(Form::keyed(), kind("word-count"), kind("sum-by-key"));
    spec.map.args = r#"{"a":1}"#.into();
    spec.combine = Some(Function::new(kind("sum")));
    spec.policy = Policy::AllowPercent(2.5);
    spec.backups = false;
    spec.spill = Some("file:///spill".into());
    spec.input = "docs/**/*.md".into();
    for form in [Form::keyed(), Form::Fold { fan_in: None }, Form::fold()] {
        spec.form = form;
        spec.combine = spec.combine.filter(|_| form.as_str() == "keyed");
        spec.validate().unwrap();
        let fields = spec.to_fields().into_iter().map(|(n, v)| (n.to_owned(), v)).collect();
        assert_eq!(JobSpec::from_fields(&fields).unwrap(), spec);
    }
}

#[test]
fn map_tasks_have_priority_1_and_reduce_tasks_3() {
    let fields: HashMap<_, _> = JobSpec::new(Form::fold(), kind("m"), kind("r"))
        .to_fields()
        .into_iter()
        .collect();
    assert_eq!(fields["map_head"], "m priority=1 retention=0 type=map");
    assert_eq!(fields["reduce_head"], "r priority=3 retention=0 type=reduce");
}

#[test]
fn headers_of_a_job_stand_in_the_heads_of_its_tasks() {
    let mut spec = JobSpec::new(Form::fold(), kind("m"), kind("r"));
    spec.headers.insert("tenant".into(), "a\nb".into());
    spec.validate().unwrap();
    let fields: HashMap<_, _> = spec.to_fields().into_iter().collect();
    let extra = r#"{"headers":{"tenant":"a\nb"}}"#;
    assert_eq!(
        fields["map_head"],
        format!("m priority=1 retention=0 type=map\n{extra}")
    );
    assert_eq!(
        fields["reduce_head"],
        format!("r priority=3 retention=0 type=reduce\n{extra}")
    );
    spec.headers.insert("long".into(), "x".repeat(2048));
    assert!(spec.validate().unwrap_err().to_string().contains("at most 2048"));
}

#[test]
fn what_cannot_work_is_refused_with_the_reason() {
    let spec = JobSpec::new(Form::fold(), kind("m"), kind("r"));
    type Break = fn(&mut JobSpec);
    let cases: [(Break, &str); 9] = [
        (|s| s.form = Form::Fold { fan_in: Some(1) }, "2 to 1000"),
        (|s| s.form = Form::Keyed { partitions: 0 }, "1 to 1000"),
        (|s| s.combine = Some(s.reduce.clone()), "keyed form"),
        (|s| s.map.args = "[]".into(), "JSON object"),
        (|s| s.spill = Some("/tmp".into()), "file:///"),
        (|s| s.spill = Some("s3://".into()), "s3://bucket"),
        (|s| s.spill = Some("file:///a/../b".into()), "without . and .."),
        (|s| s.retention = Duration::ZERO, "at least 1s"),
        (|s| s.map_options.delay = Some(Duration::from_secs(1)), "no delay"),
    ];
    for (break_it, reason) in cases {
        let mut broken = spec.clone();
        break_it(&mut broken);
        assert!(broken.validate().unwrap_err().to_string().contains(reason));
    }
    for bad in ["-1", "x", "101%", "1e1%", "+3", "%", ""] {
        assert!(bad.parse::<Policy>().is_err(), "{bad}");
    }
}
