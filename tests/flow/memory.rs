//! What stays in the memory of a process after a session has ended and after its keys were dropped.
//!
//! A process with one session is searched from outside, by `/proc`.
#![cfg(target_os = "linux")]

use std::env;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

use actix_web::dev::Service as _;
use actix_web::test::{TestRequest, init_service};
use actix_web::{App, web};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use session_runtime::{Cleanup, Databag, Keyring, Session, SessionMiddleware, Sessions, SqliteStore, Token};

#[derive(Databag)]
#[databag(table = "scanned", cookie = "scanned")]
struct Scanned {
    #[databag(user_id)]
    user_id: Option<i64>,
    visits: u32,
}

/// The folder of the process that is searched.
const FOLDER: &str = "DATABAG_SCANNED_FOLDER";

/// Reads the token that the test has chosen, without a copy on the heap.
fn token_of(folder: &Path) -> [u8; 32] {
    let mut token = [0; 32];
    let file = File::open(folder.join("token"));
    file.and_then(|mut file| file.read_exact(&mut token)).expect("the test has written it");
    token
}

/// Makes the cookie of a request. Not in an asynchronous function, whose variables are on the heap.
fn request(sessions: &Sessions<Scanned>, folder: &Path, path: &str) -> TestRequest {
    let token = Token::from_bytes(token_of(folder));
    TestRequest::post().uri(path).cookie(sessions.cookie(&token))
}

fn hold(folder: &Path) -> Token {
    Token::from_bytes(token_of(folder))
}

/// Says that a stage is reached and where the stack is, and waits until the memory was searched.
fn reach(stage: &str) {
    let mut line = [0];
    println!("stage {stage} {}", (&raw const line).addr());
    std::io::stdin().read_exact(&mut line).expect("the test answers");
}

/// What the process does that is searched.
async fn be_searched(folder: PathBuf) {
    let keyring = Keyring::from_file(folder.join("key")).expect("a key");
    let store = SqliteStore::open(folder.join("sessions.db")).expect("a database");
    let builder = Sessions::<Scanned>::builder(store).keyring(keyring).cleanup(Cleanup::Never);
    let tokens = folder.clone();
    let sessions = builder.token_source(move || token_of(&tokens)).build().await.expect("builds");
    let visit = async |mut session: Session<Scanned>| {
        session.visits += 1;
        "visited"
    };
    let leave = async |mut session: Session<Scanned>| {
        assert_eq!(session.visits, 2, "the session was found");
        session.log_out();
        "left"
    };
    let app = App::new()
        .wrap(SessionMiddleware::new(sessions.clone()))
        .route("/", web::post().to(visit))
        .route("/leave", web::post().to(leave));
    let app = init_service(app).await;
    app.call(TestRequest::post().uri("/").to_request()).await.expect("an answer");
    for path in ["/", "/leave"] {
        let request = request(&sessions, &folder, path).to_request();
        app.call(request).await.expect("an answer");
    }
    let token = hold(&folder);
    reach("held");
    drop(token);
    reach("ended");
    drop((app, sessions));
    tokio::task::yield_now().await;
    reach("dropped");
}

/// The process that is searched.
struct Searched {
    process: Child,
    output: BufReader<ChildStdout>,
}

impl Drop for Searched {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Searched {
    fn start(folder: &Path) -> Self {
        let mut process = Command::new(env::current_exe().expect("this program"))
            .args(["--exact", "memory::ended_tokens_and_dropped_keys_are_wiped", "--nocapture"])
            .env(FOLDER, folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("it starts");
        let output = BufReader::new(process.stdout.take().expect("it is piped"));
        Self { process, output }
    }

    /// Waits for a stage, and counts in how many places of the memory each of the needles is: on the heap, and on the stack.
    fn count<const N: usize>(&mut self, stage: &str, needles: [&[u8]; N]) -> [[usize; N]; 2] {
        let expected = format!("stage {stage} ");
        let mut line = String::new();
        let stack: u64 = loop {
            line.clear();
            assert_ne!(self.output.read_line(&mut line).expect("text"), 0, "it ends before {stage}");
            if let Some((_, address)) = line.split_once(&expected) {
                break address.trim().parse().expect("an address");
            }
        };
        let process = Path::new("/proc").join(self.process.id().to_string());
        let memory = File::open(process.join("mem")).expect("a parent may read it");
        let maps = fs::read_to_string(process.join("maps")).expect("a parent may read it");
        let mut counts = [[0; N]; 2];
        for map in maps.lines().filter(|map| map.contains(" rw")) {
            let (begin, end) = map.split(' ').next().and_then(|map| map.split_once('-')).expect("two");
            let [begin, end] = [begin, end].map(|place| u64::from_str_radix(place, 16).expect("hex"));
            let mut bytes = vec![0; usize::try_from(end - begin).expect("64 bits")];
            let counts = &mut counts[usize::from((begin..end).contains(&stack))];
            let length = memory.read_at(&mut bytes, begin).unwrap_or_default();
            for (place, byte) in bytes[..length].iter().enumerate() {
                for (needle, count) in needles.iter().zip(&mut *counts) {
                    if *byte == needle[0] && bytes[place..length].starts_with(needle) {
                        *count += 1;
                    }
                }
            }
        }
        println!("{stage}: {counts:?} on the heap and on the stack");
        self.process.stdin.as_mut().expect("it is piped").write_all(b"\n").expect("it waits");
        counts
    }
}

/// What is not promised is printed: the text of a token is in buffers of actix-web that are not wiped, and arrays that were
/// moved stay on the stack until it is used again.
#[actix_web::test]
async fn ended_tokens_and_dropped_keys_are_wiped() {
    if let Some(folder) = env::var_os(FOLDER) {
        return be_searched(folder.into()).await;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let key = Keyring::generate_text();
    let master: Vec<u8> = key
        .as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).expect("digits"), 16).expect("digits"))
        .collect();
    let path = folder.path().join("key");
    fs::write(&path, key.as_bytes()).expect("written");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("its owner may");
    let token: [u8; 32] = *Token::from_bytes(master[..].try_into().expect("32")).session_id().as_bytes();
    fs::write(folder.path().join("token"), token).expect("written");
    let text = URL_SAFE_NO_PAD.encode(token);

    let mut searched = Searched::start(folder.path());
    let needles = [&token[..], text.as_bytes(), &master, key.as_bytes()];
    let [[held, ..], _] = searched.count("held", needles);
    assert!(held > 0, "the search finds what is there");
    let [[ended, ..], _] = searched.count("ended", needles);
    let [heap, stack] = searched.count("dropped", needles);
    let [[dropped, _, master, text], [.., master_on_stack, text_on_stack]] = [heap, stack];
    assert_eq!((ended, dropped), (0, 0), "the token");
    assert_eq!((master, text, master_on_stack, text_on_stack), (0, 0, 0, 0), "the key and its text");
}
