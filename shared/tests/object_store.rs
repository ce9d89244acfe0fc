//! Files and objects by URL, against a small server that plays S3 (path style, no signatures checked).
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use workyard_shared::store::{Store, StoreError, Stores};

/// Objects by `/bucket/key`, and requests that were answered.
#[derive(Default)]
struct Shelf {
    objects: BTreeMap<String, Vec<u8>>,
    asked: Vec<String>,
    /// Answer 503 to so many requests first.
    refuse: u32,
}

type Shared = Arc<Mutex<Shelf>>;

fn stores(port: u16) -> Stores {
    let settings = [
        ("aws_endpoint", format!("http://127.0.0.1:{port}")),
        ("aws_allow_http", "true".to_owned()),
        ("aws_region", "us-east-1".to_owned()),
        ("aws_access_key_id", "key".to_owned()),
        ("aws_secret_access_key", "secret".to_owned()),
    ];
    Stores::with_settings(settings.map(|(name, value)| (name.to_owned(), value)).to_vec())
}

async fn serve() -> (Shared, Stores) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let shelf = Shared::default();
    let shared = Arc::clone(&shelf);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(connection(stream, Arc::clone(&shared)));
        }
    });
    (shelf, stores(port))
}

async fn connection(stream: TcpStream, shelf: Shared) {
    let mut stream = BufReader::new(stream);
    loop {
        let mut head = Vec::new();
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line).await.unwrap_or(0) == 0 {
                return;
            }
            if line.trim().is_empty() {
                break;
            }
            head.push(line.trim().to_owned());
        }
        let header = |name: &str| {
            head.iter().skip(1).find_map(|line| {
                let (key, value) = line.split_once(':')?;
                key.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
            })
        };
        let length = header("content-length").and_then(|n| n.parse().ok()).unwrap_or(0);
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await.unwrap();
        let mut words = head[0].split(' ');
        let (method, target) = (words.next().unwrap(), words.next().unwrap());
        let answer = answer(&shelf, method, target, header("range").as_deref(), body);
        stream.write_all(&answer).await.unwrap();
    }
}

fn answer(shelf: &Shared, method: &str, target: &str, range: Option<&str>, body: Vec<u8>) -> Vec<u8> {
    let mut shelf = shelf.lock().unwrap();
    shelf.asked.push(format!("{method} {target}"));
    if shelf.refuse > 0 {
        shelf.refuse -= 1;
        return response("503 Slow Down", &[], b"");
    }
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let path = path.replace("%20", " ");
    match method {
        "PUT" => {
            let tag = tag(&body);
            shelf.objects.insert(path, body);
            response("200 OK", &[tag], b"")
        }
        "POST" if query == "delete" => {
            let text = String::from_utf8(body).unwrap();
            let mut deleted = "<DeleteResult>".to_owned();
            for part in text.split("<Key>").skip(1) {
                let key = part.split("</Key>").next().unwrap();
                shelf.objects.remove(&format!("{}/{key}", path.trim_end_matches('/')));
                deleted.push_str(&format!("<Deleted><Key>{key}</Key></Deleted>"));
            }
            response("200 OK", &[], (deleted + "</DeleteResult>").as_bytes())
        }
        "GET" if query.contains("list-type=2") => response("200 OK", &[], list(&shelf, &path, query).as_bytes()),
        "GET" | "HEAD" => match shelf.objects.get(&path) {
            None => response("404 Not Found", &[], b""),
            Some(object) => {
                let modified = "Last-Modified: Tue, 14 Nov 2023 22:13:20 GMT".to_owned();
                let mut headers = vec![tag(object), modified];
                if method == "HEAD" {
                    let whole = response("200 OK", &headers, object);
                    return whole[..whole.len() - object.len()].to_vec();
                }
                let Some(range) = range else {
                    return response("200 OK", &headers, object);
                };
                let (from, to) = range.strip_prefix("bytes=").unwrap().split_once('-').unwrap();
                let (from, to): (usize, usize) = (from.parse().unwrap(), to.parse().unwrap());
                headers.push(format!("Content-Range: bytes {from}-{to}/{}", object.len()));
                response("206 Partial Content", &headers, &object[from..=to])
            }
        },
        _ => response("405 Method Not Allowed", &[], b""),
    }
}

fn tag(object: &[u8]) -> String {
    format!("ETag: \"tag-{}\"", object.len())
}

fn list(shelf: &Shelf, path: &str, query: &str) -> String {
    let prefix = query.split('&').find_map(|pair| pair.strip_prefix("prefix="));
    let prefix = prefix.unwrap_or("").replace("%2F", "/");
    let bucket = format!("{}/", path.trim_end_matches('/'));
    let mut xml = "<ListBucketResult><IsTruncated>false</IsTruncated>".to_owned();
    for (name, object) in &shelf.objects {
        let Some(key) = name.strip_prefix(&bucket).filter(|key| key.starts_with(&prefix)) else {
            continue;
        };
        let tag = tag(object).trim_start_matches("ETag: ").replace('"', "&quot;");
        xml.push_str(&format!(
            "<Contents><Key>{key}</Key><LastModified>2023-11-14T22:13:20.000Z</LastModified>\
             <ETag>{tag}</ETag><Size>{}</Size></Contents>",
            object.len()
        ));
    }
    xml + "</ListBucketResult>"
}

fn response(status: &str, headers: &[String], body: &[u8]) -> Vec<u8> {
    let mut text = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n", body.len());
    for header in headers {
        text.push_str(header);
        text.push_str("\r\n");
    }
    let mut bytes = (text + "\r\n").into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

#[tokio::test]
async fn objects_are_written_read_in_ranges_listed_and_removed() {
    let (shelf, stores) = serve().await;
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
    let (shelf, served) = serve().await;
    let store = served.open("s3://bucket").unwrap();
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

    let away = stores(1).open("s3://bucket").unwrap().read("a").await;
    assert!(matches!(away, Err(StoreError::Temporary { .. })), "{away:?}");
    let unknown = Stores::with_settings(vec![("aws_colour".to_owned(), "red".to_owned())]);
    assert!(matches!(unknown.open("s3://bucket"), Err(StoreError::Final { .. })));
    assert!(matches!(Store::open("s3://"), Err(StoreError::Final { .. })));
}
