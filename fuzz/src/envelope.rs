//! Sealed sessions that were changed: what opens is what was sealed, in its own place.

use session_runtime::access::InCookie;
use session_runtime::store::{Row, Unlisted};
use session_runtime::{CookieStore, Databag, Error, Sessions, Timestamp, Token};

use crate::Target;
use crate::http::run as wait;
use crate::input::Input;
use crate::rows::{Loads, Shelf, keyring, steady};

/// Rows that hold bytes.
pub const ROW: Target = Target {
    name: "envelope",
    run: |data| ROWS.with(|rows| rows.run(data)),
    starts,
    weight: 1,
    words: &["\u{1}", "\0"],
};

/// Rows that hold text.
pub const TEXT: Target = Target {
    name: "envelope_text",
    run: |data| TEXTS.with(|rows| rows.run(data)),
    starts,
    weight: 1,
    words: &["=", "A", "Qk=="],
};

/// Sessions in cookies.
pub const COOKIE: Target = Target {
    name: "sealed_cookie",
    run: |data| COOKIES.with(|cookies| cookies.run(data)),
    starts,
    weight: 1,
    words: &["\u{1}", "\0"],
};

/// Edits of each kind.
fn starts() -> Vec<Vec<u8>> {
    let mut starts = vec![vec![], vec![1], vec![2, 9]];
    starts.extend((0..10).map(|edit| vec![0, edit, 1, 3, 2, 1, 1, 1, 1, 1]));
    starts
}

macro_rules! bags {
    ($($bag:ident $name:literal $codec:literal;)+) => {
        $(#[derive(Clone, Debug, PartialEq, Databag)]
        #[databag(name = $name, table = $name, codec = $codec)]
        struct $bag {
            #[databag(user_id)]
            user_id: Option<i64>,
            #[databag(column)]
            tenant: Option<String>,
            text: String,
        })+
    };
}

bags! {
    Sealed "sealed" "bincode";
    Other "another" "bincode";
    SealedText "sealed_text" "json";
    OtherText "another_text" "json";
}

/// Rows of two bags under one key.
struct Rows<T> {
    shelf: Shelf,
    sessions: Loads<T>,
    /// Those of the bag, and then those of another bag.
    genuine: Vec<(Token, Row)>,
    own: usize,
    bag: fn(&str) -> T,
}

thread_local! {
    static ROWS: Rows<Sealed> = Rows::new(|text| Sealed { user_id: Some(7), tenant: None, text: text.to_owned() }, |text| Other {
        user_id: Some(7), tenant: None, text: text.to_owned(),
    });
    static TEXTS: Rows<SealedText> = Rows::new(
        |text| SealedText { user_id: Some(7), tenant: None, text: text.to_owned() },
        |text| OtherText { user_id: Some(7), tenant: None, text: text.to_owned() },
    );
    static COOKIES: Cookies = Cookies::new();
}

const TEXT_OF: [&str; 3] = ["", "of one", "of another, longer"];

impl<T: Databag + PartialEq + std::fmt::Debug> Rows<T> {
    fn new<O: Databag>(bag: fn(&str) -> T, other: fn(&str) -> O) -> Self {
        let shelf = Shelf::default();
        let sessions: Loads<T> =
            wait(steady(Sessions::<T>::builder(Unlisted(shelf.clone())).keyring(keyring())).build())
                .expect("good settings");
        let others: Loads<O> =
            wait(steady(Sessions::<O>::builder(Unlisted(shelf.clone())).keyring(keyring())).build())
                .expect("good settings");
        let mut genuine = Vec::new();
        for text in TEXT_OF {
            let (token, session) = wait(sessions.create(bag(text))).expect("stored");
            genuine.push((token, shelf.get(session.id()).expect("stored")));
        }
        for text in TEXT_OF {
            let (token, session) = wait(others.create(other(text))).expect("stored");
            genuine.push((token, shelf.get(session.id()).expect("stored")));
        }
        Self { shelf, sessions, genuine, own: TEXT_OF.len(), bag }
    }

    fn run(&self, data: &[u8]) {
        let mut input = Input(data);
        let which = usize::from(input.byte()) % self.own;
        let (token, sealed) = &self.genuine[which];
        let mut row = sealed.clone();
        while !input.0.is_empty() {
            self.edit(&mut row, &mut input);
        }
        row.id = token.session_id();
        self.shelf.replace(row.clone());
        match wait(self.sessions.load(token)) {
            Ok(Some(session)) => {
                assert_eq!(row, *sealed, "only what was sealed opens");
                assert_eq!(session.into_bag(), (self.bag)(TEXT_OF[which]));
            }
            Ok(None) => assert_ne!(row, *sealed, "what was sealed opens"),
            Err(Error::UnknownKey { .. }) => assert_ne!(row.state, sealed.state),
            Err(error) => panic!("{error}"),
        }
    }

    /// Changes the row.
    fn edit(&self, row: &mut Row, input: &mut Input<'_>) {
        let other = |input: &mut Input<'_>| &self.genuine[usize::from(input.byte()) % self.genuine.len()].1;
        let shifted = |time: Timestamp, by: i64| Timestamp::from_millis(time.as_millis().wrapping_add(by));
        match input.byte() % 11 {
            0 | 1 => edit_bytes(&mut row.state, input),
            2 => row.state = other(input).state.clone(),
            3 => row.created = shifted(row.created, input.integer()),
            4 => row.expiration = shifted(row.expiration, input.integer()),
            5 => row.revision = row.revision.wrapping_add(input.integer()),
            6 => {
                let (state, other) = (std::mem::take(&mut row.state), other(input).clone());
                *row = other;
                if input.flag() {
                    row.state = state;
                }
            }
            7 => row.user = input.option(|input| session_runtime::Value::Integer(input.integer())),
            8 => row.columns = vec![input.option(|input| session_runtime::Value::Text(input.text()))],
            9 => row.damaged = input.option(Input::text),
            _ => row.state = std::mem::take(&mut input.0).to_vec(),
        }
    }
}

/// Changes bytes at a place.
fn edit_bytes(bytes: &mut Vec<u8>, input: &mut Input<'_>) {
    let at = usize::from(input.byte()) << 8 | usize::from(input.byte());
    let at = at % (bytes.len() + 1);
    match input.byte() % 4 {
        0 if at < bytes.len() => bytes[at] ^= input.byte(),
        1 => bytes.truncate(at),
        2 => drop(bytes.splice(at..at, input.bytes().iter().copied())),
        _ => {
            let new = input.bytes();
            let end = (at + new.len()).min(bytes.len());
            bytes.splice(at..end, new.iter().copied());
        }
    }
}

/// In a cookie.
#[derive(Clone, Debug, PartialEq, Databag)]
#[databag(name = "Cookied", table = "cookied", cookie = "__Host-sealed")]
struct Cookied {
    text: String,
}

struct Cookies {
    sessions: Sessions<Cookied, InCookie>,
    genuine: Vec<Vec<u8>>,
}

impl Cookies {
    fn new() -> Self {
        let build = |name: &str| {
            let builder = Sessions::<Cookied>::builder(CookieStore).keyring(keyring()).cookie(name);
            wait(steady(builder).build()).expect("good settings")
        };
        let (sessions, others) = (build("__Host-sealed"), build("__Host-another"));
        let mut genuine = Vec::new();
        for sessions in [&sessions, &others] {
            for text in TEXT_OF {
                let (token, _) = wait(sessions.create(Cookied { text: text.to_owned() })).expect("sealed");
                genuine.push(decoded(&token.encode()).expect("base64url"));
            }
        }
        Self { sessions, genuine }
    }

    fn run(&self, data: &[u8]) {
        let mut input = Input(data);
        let which = usize::from(input.byte()) % TEXT_OF.len();
        let mut bytes = self.genuine[which].clone();
        while !input.0.is_empty() {
            match input.byte() % 6 {
                4 => bytes.clone_from(&self.genuine[usize::from(input.byte()) % self.genuine.len()]),
                5 => bytes = std::mem::take(&mut input.0).to_vec(),
                _ => edit_bytes(&mut bytes, &mut input),
            }
        }
        let Some(token) = Token::parse(&encoded(&bytes)) else { return };
        match wait(self.sessions.load(&token)) {
            Ok(Some(session)) => {
                let of = self.genuine[..TEXT_OF.len()].iter().position(|sealed| *sealed == bytes);
                let of = of.expect("only what was sealed for this cookie opens");
                assert_eq!(session.text, TEXT_OF[of]);
            }
            Ok(None) | Err(Error::UnknownKey { .. }) => {
                assert!(!self.genuine[..TEXT_OF.len()].contains(&bytes), "what was sealed opens");
            }
            Err(error) => panic!("{error}"),
        }
    }
}

fn encoded(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes)
}

fn decoded(text: &str) -> Option<Vec<u8>> {
    use base64::Engine as _;
    base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(text).ok()
}
