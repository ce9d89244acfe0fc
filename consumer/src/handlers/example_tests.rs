//! `examples/workyard.toml` is what people start from, so all of it must work.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use super::testing::result_of;
use super::{build, testing};
use crate::{Context, Handler};

fn handlers() -> BTreeMap<String, Arc<dyn Handler>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/workyard.toml");
    let config = crate::config::load(&path).unwrap();
    config
        .handlers
        .iter()
        .map(|(kind, handler)| (kind.clone(), build(handler).unwrap().handler))
        .collect()
}

#[tokio::test]
async fn every_handler_of_the_example_can_be_built_and_run() {
    let handlers = handlers();
    assert_eq!(result_of(&handlers["count-words"], r#"{"text": "one two"}"#).await, "3");
    let title = r#"{"title": "a $(b) \"c\""}"#;
    assert_eq!(result_of(&handlers["report:title"], title).await, r#""a $(b) \"c\"""#);
    let digest = result_of(&handlers["checksum"], r#"{"path": "workyard.toml"}"#).await;
    assert_eq!(digest.len(), 66, "{digest}");
    let ctx = Context::for_test("greet", "task-1");
    let greeting = testing::run(&handlers["greet"], ctx, r#"{"name": "you"}"#)
        .await
        .unwrap();
    assert_eq!(greeting, r#"{"greeting": "Hello, you", "attempt": 1}"#);
    assert!(handlers.contains_key("notify"));
}
