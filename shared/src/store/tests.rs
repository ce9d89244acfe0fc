use super::*;

fn place() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&format!("file://{}", dir.path().display())).unwrap();
    (dir, store)
}

#[tokio::test]
async fn what_is_written_is_listed_read_and_removed() {
    let (dir, store) = place();
    store.write("job-1/data/0.3-a", Bytes::from("hello")).await.unwrap();
    store.write("job-1/b é%20", Bytes::from("x")).await.unwrap();
    store.write("job-2/c", Bytes::new()).await.unwrap();
    assert_eq!(store.read_range("job-1/data/0.3-a", 1..3).await.unwrap(), "el");
    assert_eq!(store.read("job-1/b é%20").await.unwrap(), "x");
    assert_eq!(store.read("job-2/c").await.unwrap(), "");
    let listed = store.list("job-1").await.unwrap();
    let names: Vec<&str> = listed.iter().map(|(path, _)| path.as_str()).collect();
    assert_eq!(names, ["job-1/b é%20", "job-1/data/0.3-a"]);
    assert_eq!(listed[1].1, store.stat("job-1/data/0.3-a").await.unwrap());
    store.remove_all("job-1").await.unwrap();
    store.remove_all("job-1").await.unwrap();
    assert!(!dir.path().join("job-1").exists() && dir.path().join("job-2").exists());
    assert!(store.list("job-1").await.unwrap().is_empty());
}

#[tokio::test]
async fn one_file_goes_with_the_folders_that_it_leaves_empty_and_not_the_place() {
    let (dir, store) = place();
    assert!(store.is_there().await.unwrap());
    store.write("j/data/a", Bytes::from("1")).await.unwrap();
    store.write("j/data/b", Bytes::from("2")).await.unwrap();
    store.remove("j/data/a").await.unwrap();
    assert_eq!(store.read("j/data/b").await.unwrap(), "2");
    store.remove("j/data/b").await.unwrap();
    store.remove("j/data/b").await.unwrap();
    assert!(dir.path().exists() && !dir.path().join("j").exists());
    let gone = Store::open(&format!("file://{}/gone", dir.path().display())).unwrap();
    assert!(!gone.is_there().await.unwrap());
}

#[tokio::test]
async fn a_folder_that_is_filled_while_it_goes_is_removed_again() {
    let (dir, store) = place();
    store.write("j/data/a", Bytes::from("1")).await.unwrap();
    let filler = store.clone();
    let filling = tokio::spawn(async move {
        for n in 0..200 {
            // Its folder may go between its making and the file.
            filler.write(&format!("j/data/b{n}"), Bytes::from("2")).await.ok();
        }
    });
    while !filling.is_finished() {
        store.remove_all("j").await.unwrap();
    }
    filling.await.unwrap();
    store.remove_all("j").await.unwrap();
    assert!(!dir.path().join("j").exists());
}

#[tokio::test]
async fn the_version_of_a_file_is_its_modification_time_in_ns() {
    let (dir, store) = place();
    store.write("a", Bytes::from("1")).await.unwrap();
    let path = dir.path().join("a");
    let at = std::time::UNIX_EPOCH + std::time::Duration::new(1_700_000_000, 123_456_789);
    std::fs::File::options()
        .write(true)
        .open(&path)
        .unwrap()
        .set_modified(at)
        .unwrap();
    let itself = Store::open(&format!("file://{}", path.display())).unwrap();
    let stat = itself.stat("").await.unwrap();
    assert_eq!((stat.size, stat.version.as_str()), (1, "1700000000123456789"));
}

#[tokio::test]
async fn errors_say_what_the_caller_can_do() {
    let (_dir, store) = place();
    assert!(matches!(store.read("gone").await, Err(StoreError::Missing { .. })));
    assert!(matches!(store.stat("gone").await, Err(StoreError::Missing { .. })));
    store.write("file", Bytes::from("x")).await.unwrap();
    let below_a_file = store.write("file/below", Bytes::from("x")).await;
    assert!(
        matches!(below_a_file, Err(StoreError::Final { .. })),
        "{below_a_file:?}"
    );
    for bad in ["../x", "a/../../x", "a//b"] {
        assert!(matches!(store.read(bad).await, Err(StoreError::Final { .. })), "{bad}");
    }
    assert!(matches!(store.remove_all("").await, Err(StoreError::Final { .. })));
    for bad in ["", "/tmp", "file://tmp", "http://x/y", "s3:///x"] {
        assert!(matches!(Store::open(bad), Err(StoreError::Final { .. })), "{bad}");
    }
}

#[tokio::test]
async fn what_is_no_regular_file_is_an_error_and_not_waited_for() {
    let (dir, store) = place();
    let fifo = dir.path().join("fifo");
    assert!(
        std::process::Command::new("mkfifo")
            .arg(&fifo)
            .status()
            .unwrap()
            .success()
    );
    let all = async {
        let (stat, read) = (store.stat("fifo").await, store.read("fifo").await);
        let range = store.read_range("fifo", 0..1).await;
        [stat.err(), read.err(), range.err()]
    };
    let limit = std::time::Duration::from_secs(10);
    let errors = tokio::time::timeout(limit, all).await.expect("it waits for a writer");
    assert!(
        errors
            .iter()
            .all(|error| matches!(error, Some(StoreError::Final { detail, .. }) if detail.contains("regular"))),
        "{errors:?}"
    );
}
