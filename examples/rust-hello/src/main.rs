//! A function in Rust with nothing but the standard library: it asks the Runtime API for an event, answers, and asks
//! again, all on one connection.

use std::env;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;

/// The function itself: the event's JSON in, the response's JSON out.
fn handle(event: &str, request_id: &str) -> String {
    println!("request {request_id} brings {} bytes", event.len());
    format!(r#"{{"message":"Hello from Rust","event":{event}}}"#)
}

struct RuntimeApi {
    host: String,
    stream: BufReader<TcpStream>,
}

/// An answer of the Runtime API.
struct Answer {
    request_id: String,
    body: String,
}

impl RuntimeApi {
    fn connect() -> io::Result<Self> {
        let host = env::var("AWS_LAMBDA_RUNTIME_API").map_err(io::Error::other)?;
        let stream = TcpStream::connect(&host)?;
        stream.set_nodelay(true)?;
        Ok(Self { host, stream: BufReader::new(stream) })
    }

    fn next(&mut self) -> io::Result<Answer> {
        self.call("GET", "invocation/next", "")
    }

    fn respond(&mut self, request_id: &str, response: &str) -> io::Result<()> {
        self.call("POST", &format!("invocation/{request_id}/response"), response).map(|_| ())
    }

    fn call(&mut self, method: &str, path: &str, body: &str) -> io::Result<Answer> {
        let request = format!(
            "{method} /2018-06-01/runtime/{path} HTTP/1.1\r\nHost: {}\r\nContent-Length: {}\r\n\r\n{body}",
            self.host,
            body.len()
        );
        self.stream.get_mut().write_all(request.as_bytes())?;

        let status = self.line()?;
        let mut answer = Answer { request_id: String::new(), body: String::new() };
        let mut length = 0;
        loop {
            let line = self.line()?;
            let Some((name, value)) = line.split_once(':') else { break };
            if name.eq_ignore_ascii_case("content-length") {
                length = value.trim().parse().map_err(io::Error::other)?;
            } else if name.eq_ignore_ascii_case("lambda-runtime-aws-request-id") {
                answer.request_id = value.trim().to_owned();
            }
        }
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body)?;
        answer.body = String::from_utf8(body).map_err(io::Error::other)?;
        match status.split(' ').nth(1) {
            Some(code) if code.starts_with('2') => Ok(answer),
            _ => Err(io::Error::other(format!("{path}: {status}: {}", answer.body))),
        }
    }

    /// One line of the answer's head, without its end. The last one is empty.
    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        if self.stream.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(line.trim_end().to_owned())
    }
}

fn main() -> io::Result<()> {
    let mut api = RuntimeApi::connect()?;
    loop {
        let event = api.next()?;
        let response = handle(&event.body, &event.request_id);
        api.respond(&event.request_id, &response)?;
    }
}
