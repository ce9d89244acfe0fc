//! Files and objects by URL, against a small server that plays S3.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

#[path = "support/s3.rs"]
mod s3;

use bytes::Bytes;
use workyard_shared::store::{Store, StoreError, Stores};

#[tokio::test]
async fn objects_are_written_read_in_ranges_listed_and_removed() {
    let (shelf, port) = s3::serve().await;
    let stores = s3::stores(port);
    let store = stores.open("s3://bucket/spill").unwrap();
    for (path, text) in [("job-1/a b", "hello"), ("job-1/deep/b", "x"), ("job-10/c", "other")] {
        store.write(path, Bytes::from(text)).await.unwrap();
    }
    let path_style = shelf.lock().unwrap().objects.contains_key("/bucket/spill/job-1/a b");
    assert!(path_style);
    assert_eq!(store.read_range("job-1/a b", 1..4).await.unwrap(), "ell");
    assert_eq!(store.read("job-1/deep/b").await.unwrap(), "x");
    let stat = store.stat("job-1/a b").await.unwrap();
    assert_eq!((stat.size, stat.version.as_str()), (5, "\"tag-5\""));
    let listed = store.list("job-1").await.unwrap();
    let names: Vec<&str> = listed.iter().map(|(path, _)| path.as_str()).collect();
    assert_eq!(names, ["job-1/a b", "job-1/deep/b"]);
    assert_eq!(listed[0].1, stat, "a list says the same");

    let itself = stores.open("s3://bucket/spill/job-10/c").unwrap();
    assert_eq!(itself.read("").await.unwrap(), "other");

    store.remove_all("job-1").await.unwrap();
    let left: Vec<String> = shelf.lock().unwrap().objects.keys().cloned().collect();
    assert_eq!(left, ["/bucket/spill/job-10/c"], "not that of another job");
}

#[tokio::test]
async fn a_server_that_lacks_something_is_slow_or_away_is_sorted() {
    let (shelf, port) = s3::serve().await;
    let store = s3::stores(port).open("s3://bucket").unwrap();
    assert!(matches!(store.read("gone").await, Err(StoreError::Missing { .. })));
    assert!(matches!(store.stat("gone").await, Err(StoreError::Missing { .. })));
    // A hiccup is passed over.
    store.write("a", Bytes::from("1")).await.unwrap();
    shelf.lock().unwrap().refuse = 1;
    assert_eq!(store.read("a").await.unwrap(), "1");
    shelf.lock().unwrap().refuse = 10;
    let slow = store.read("a").await;
    assert!(matches!(slow, Err(StoreError::Temporary { .. })), "{slow:?}");
    let asked = shelf.lock().unwrap().asked.len();
    assert!(matches!(store.read("../a").await, Err(StoreError::Final { .. })));
    assert_eq!(
        shelf.lock().unwrap().asked.len(),
        asked,
        "refused before anything is asked"
    );

    let away = s3::stores(1).open("s3://bucket").unwrap().read("a").await;
    assert!(matches!(away, Err(StoreError::Temporary { .. })), "{away:?}");
    let unknown = Stores::with_settings(vec![("aws_colour".to_owned(), "red".to_owned())]);
    assert!(matches!(unknown.open("s3://bucket"), Err(StoreError::Final { .. })));
    assert!(matches!(Store::open("s3://"), Err(StoreError::Final { .. })));
}

#[tokio::test]
async fn without_credentials_the_answer_is_clear_and_nothing_is_asked() {
    let (shelf, port) = s3::serve().await;
    let endpoint = ("aws_endpoint".to_owned(), format!("http://127.0.0.1:{port}"));
    let http = ("aws_allow_http".to_owned(), "true".to_owned());
    let nobody = Stores::with_settings(vec![endpoint.clone(), http.clone()]);
    let begun = std::time::Instant::now();
    let refused = nobody.open("s3://bucket/x").unwrap_err();
    println!("refused after {:?}", begun.elapsed());
    assert!(matches!(refused, StoreError::Final { .. }), "{refused:?}");
    assert!(refused.to_string().contains("AWS_SKIP_SIGNATURE"), "{refused}");
    assert!(shelf.lock().unwrap().asked.is_empty());
    let anonymous = ("aws_skip_signature".to_owned(), "true".to_owned());
    let public = Stores::with_settings(vec![endpoint, http, anonymous]);
    let missing = public.open("s3://bucket").unwrap().read("gone").await;
    assert!(matches!(missing, Err(StoreError::Missing { .. })), "{missing:?}");
}
