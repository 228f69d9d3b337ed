//! actix-web with a row of rusqlite and nothing else: `serve sqlite` or `store sqlite SECONDS`. No session, no seal, no
//! encoding: what the store alone costs.

use std::cell::RefCell;
use std::env;
use std::error::Error;
use std::path::Path;

use actix_web::{App, HttpRequest, HttpResponse, HttpServer, cookie::Cookie, web};
use rusqlite::Connection;

type Answer<T> = Result<T, Box<dyn Error>>;

fn main() -> Answer<()> {
    let file = bench_common::folder().join("sessions.db");
    open(&file)?.execute_batch(
        "CREATE TABLE IF NOT EXISTS sessions (id TEXT PRIMARY KEY, state BLOB NOT NULL) STRICT",
    )?;
    match env::args().nth(3) {
        Some(seconds) => {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build()?;
            runtime.block_on(measure(&file, seconds.parse()?))
        }
        None => actix_web::rt::System::new().block_on(serve(&file)),
    }
}

fn open(file: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open(file)?;
    connection.execute_batch(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA busy_timeout = 5000",
    )?;
    Ok(connection)
}

async fn serve(file: &Path) -> Answer<()> {
    let file = file.to_owned();
    let app = move || {
        let connection = open(&file).expect("the database opens");
        App::new()
            .app_data(web::Data::new(connection))
            .route("/plain", web::get().to(plain))
            .route("/create", web::get().to(create))
            .route("/read", web::get().to(read))
            .route("/write", web::get().to(write))
    };
    let server = HttpServer::new(app).workers(1).bind("127.0.0.1:0")?;
    println!("{}", server.addrs()[0]);
    Ok(server.run().await?)
}

async fn plain() -> &'static str {
    "0"
}

async fn create(connection: web::Data<Connection>) -> Answer<HttpResponse> {
    let count: u32 = connection.query_row("SELECT count(*) FROM sessions", (), |row| row.get(0))?;
    let id = id(count);
    insert(&connection, &id)?;
    Ok(HttpResponse::Ok().cookie(Cookie::new("id", id)).body("0"))
}

async fn read(connection: web::Data<Connection>, request: HttpRequest) -> Answer<String> {
    let id = request.cookie("id").ok_or("no session")?;
    Ok(number(&load(&connection, id.value())?).to_string())
}

async fn write(connection: web::Data<Connection>, request: HttpRequest) -> Answer<String> {
    let id = request.cookie("id").ok_or("no session")?;
    let mut state = load(&connection, id.value())?;
    let visits = number(&state) + 1;
    state[..8].copy_from_slice(&visits.to_be_bytes());
    save(&connection, id.value(), &state)?;
    Ok(visits.to_string())
}

fn id(n: u32) -> String {
    format!("{:064x}", u128::from(n) * 0x9E37_79B9_7F4A_7C15)
}

fn insert(connection: &Connection, id: &str) -> rusqlite::Result<()> {
    connection.execute("INSERT INTO sessions VALUES (?1, ?2)", (id, [0_u8; 300])).map(drop)
}

fn load(connection: &Connection, id: &str) -> rusqlite::Result<Vec<u8>> {
    connection.prepare_cached("SELECT state FROM sessions WHERE id = ?1")?.query_row([id], |row| row.get(0))
}

fn save(connection: &Connection, id: &str, state: &[u8]) -> rusqlite::Result<()> {
    connection.prepare_cached("UPDATE sessions SET state = ?2 WHERE id = ?1")?.execute((id, state)).map(drop)
}

fn number(state: &[u8]) -> u64 {
    state.first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes))
}

/// Each thread of the runtime has a connection of its own.
fn with<T>(file: &Path, work: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> T {
    thread_local!(static CONNECTION: RefCell<Option<Connection>> = const { RefCell::new(None) });
    CONNECTION.with_borrow_mut(|connection| {
        let connection = connection.get_or_insert_with(|| open(file).expect("the database opens"));
        work(connection).expect("the database answers")
    })
}

async fn measure(file: &Path, seconds: f64) -> Answer<()> {
    let ids: Vec<String> = (0..).map(id).take(bench_common::STORED).collect();
    with(file, |connection| ids.iter().try_for_each(|id| insert(connection, id)));
    let path = file.to_owned();
    let ids = bench_common::measure("load", seconds, ids, move |id: String| {
        let path = path.clone();
        async move {
            with(&path, |connection| load(connection, &id));
            id
        }
    })
    .await;
    let path = file.to_owned();
    let sessions = ids.into_iter().map(|id| (id, 0_u64)).collect();
    bench_common::measure("save", seconds, sessions, move |(id, visits): (String, u64)| {
        let path = path.clone();
        async move {
            let mut state = vec![0; 300];
            state[..8].copy_from_slice(&(visits + 1).to_be_bytes());
            with(&path, |connection| save(connection, &id, &state));
            (id, visits + 1)
        }
    })
    .await;
    Ok(())
}
