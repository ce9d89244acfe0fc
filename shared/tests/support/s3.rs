//! A small server that plays S3: path style, no signatures checked. Tests of other crates include this file by its path.
#![allow(dead_code, reason = "each test binary uses its own part")]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use workyard_shared::store::Stores;

/// Objects by `/bucket/key`, and requests that were answered.
#[derive(Default)]
pub(crate) struct Shelf {
    pub(crate) objects: BTreeMap<String, Vec<u8>>,
    pub(crate) asked: Vec<String>,
    /// Answer 503 to so many requests first.
    pub(crate) refuse: u32,
    /// How often all objects were put again since: their ETags tell.
    pub(crate) again: u32,
}

pub(crate) type Shared = Arc<Mutex<Shelf>>;

/// The settings for a server on this port, under their names in the environment.
pub(crate) fn settings(port: u16) -> Vec<(String, String)> {
    [
        ("AWS_ENDPOINT", format!("http://127.0.0.1:{port}")),
        ("AWS_ALLOW_HTTP", "true".to_owned()),
        ("AWS_REGION", "us-east-1".to_owned()),
        ("AWS_ACCESS_KEY_ID", "key".to_owned()),
        ("AWS_SECRET_ACCESS_KEY", "secret".to_owned()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .to_vec()
}

/// Stores that ask a server on this port.
pub(crate) fn stores(port: u16) -> Stores {
    let lower = |(name, value): (String, String)| (name.to_ascii_lowercase(), value);
    Stores::with_settings(settings(port).into_iter().map(lower).collect())
}

/// Starts a server: what it holds, and its port.
pub(crate) async fn serve() -> (Shared, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let shelf = Shared::default();
    let shared = Arc::clone(&shelf);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(connection(stream, Arc::clone(&shared)));
        }
    });
    (shelf, port)
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
            let tag = shelf.tag(&body);
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
                let mut headers = vec![shelf.tag(object), modified];
                if method == "HEAD" {
                    let whole = response("200 OK", &headers, object);
                    return whole[..whole.len() - object.len()].to_vec();
                }
                let Some(range) = range else {
                    return response("200 OK", &headers, object);
                };
                let (from, to) = range.strip_prefix("bytes=").unwrap().split_once('-').unwrap();
                let (from, to): (usize, usize) = (from.parse().unwrap(), to.parse().unwrap());
                let to = to.min(object.len() - 1);
                headers.push(format!("Content-Range: bytes {from}-{to}/{}", object.len()));
                response("206 Partial Content", &headers, &object[from..=to])
            }
        },
        _ => response("405 Method Not Allowed", &[], b""),
    }
}

impl Shelf {
    fn tag(&self, object: &[u8]) -> String {
        let again = if self.again > 0 {
            format!("-{}", self.again)
        } else {
            String::new()
        };
        format!("ETag: \"tag-{}{again}\"", object.len())
    }
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
        let tag = shelf.tag(object).trim_start_matches("ETag: ").replace('"', "&quot;");
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
