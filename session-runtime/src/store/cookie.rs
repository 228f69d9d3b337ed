//! Sessions in their visitors' cookies: a row enters, the bytes of a token leave, and the other way round.
//!
//! Knows nothing of what the state holds, nor whether it is sealed. All integers are big-endian.
//!
//! ```text
//! token   id (32) | 0x01 | created (8) | expiration (8) | revision (8) | state
//! ```

use crate::clock::Timestamp;
use crate::store::Row;
use crate::token::{MAX_COOKIE, SessionId, Token};

#[cfg(feature = "cookie")]
pub use self::keeper::CookieStore;

const VERSION: u8 = 1;
const HEADER_LEN: usize = size_of::<SessionId>() + 1 + 3 * size_of::<i64>();

/// Returns how long the state may be in a cookie of this name, in bytes.
pub(crate) fn room(name: &str) -> usize {
    // Three bytes are four characters.
    (MAX_COOKIE.saturating_sub(name.len()) * 3 / 4).saturating_sub(HEADER_LEN)
}

/// Makes the token that carries a row. What is projected stays behind: it is in the state as well.
pub(crate) fn pack(row: &Row) -> Option<Token> {
    let mut bytes = Vec::with_capacity(HEADER_LEN + row.state.len());
    bytes.extend_from_slice(row.id.as_bytes());
    bytes.push(VERSION);
    for number in [row.created.as_millis(), row.expiration.as_millis(), row.revision] {
        bytes.extend_from_slice(&number.to_be_bytes());
    }
    bytes.extend_from_slice(&row.state);
    Token::carrying(bytes)
}

/// Returns the row that a token carries, if it has the form of one.
pub(crate) fn unpack(token: &[u8]) -> Option<Row> {
    let (id, rest) = token.split_first_chunk()?;
    let mut rest = rest.strip_prefix(&[VERSION])?;
    let mut number = || {
        let (bytes, behind) = rest.split_first_chunk()?;
        rest = behind;
        Some(i64::from_be_bytes(*bytes))
    };
    let (created, expiration, revision) = (number()?, number()?, number()?);
    Some(Row {
        id: SessionId::from_bytes(*id),
        state: rest.to_vec(),
        user: None,
        ip: None,
        created: Timestamp::from_millis(created),
        expiration: Timestamp::from_millis(expiration),
        revision,
        columns: Vec::new(),
    })
}

#[cfg(feature = "cookie")]
mod keeper {
    use std::time::Duration;

    use crate::store::{Outcome, Row, Store, StoreError, Table, Update};
    use crate::token::SessionId;

    /// Keeps each session in the cookie of its visitor, sealed; the server keeps nothing.
    ///
    /// Any number of processes that have the same keys share the sessions. When it began and until when it
    /// lives is sealed with a session, and checked by the server. Name and value of the cookie together may take
    /// 4096 bytes, so a session about 2900: a larger one is answered 500, and the log names its biggest field.
    /// Proxies have to let headers of that length through (`proxy_buffer_size` of nginx is 4 KiB or 8 KiB).
    ///
    /// # What cannot be had without a row
    ///
    /// - **Revocation.** Nobody can list, find or end the sessions of a user, or one by its id: that does not
    ///   compile. A log-out takes the cookie from the browser, and the process that saw it remembers that for
    ///   the requests that are in flight. Whoever has a copy of the cookie can be signed in with it until it
    ///   expires. Keep `idle` and `absolute` short, and prefer another store where sessions are worth stealing.
    /// - **The latest state.** Whoever has kept an earlier cookie can present it again until it expires, with
    ///   what the session held then: count nothing in it that a visitor would like to undo.
    /// - **Merging.** Of two requests that change a session at the same time, the browser keeps the cookie that
    ///   came last. Policies (`merge = ".."`) and `update` have nothing to compare with.
    /// - **`max_per_user`**, which is refused when sessions are built.
    ///
    /// Sealing is required: a cookie in the clear could say anything, so `danger_plaintext` is refused. Whoever has
    /// the key can be anybody.
    ///
    /// # Examples
    ///
    /// ```
    /// use session_runtime::{CookieStore, Databag, Keyring, Sessions};
    ///
    /// #[derive(Databag)]
    /// struct Shop {
    ///     visits: u32,
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let sessions = Sessions::<Shop>::builder(CookieStore)
    ///     .keyring(Keyring::parse(&Keyring::generate())?)
    ///     .build()
    ///     .await?;
    /// let (token, _) = sessions.create(Shop { visits: 1 }).await?;
    /// assert_eq!(sessions.load(&token).await?.expect("not expired").visits, 1);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// A session that is in a cookie cannot be ended from elsewhere:
    ///
    /// ```compile_fail,E0080
    /// # use session_runtime::{CookieStore, Databag, Error, SessionId, Sessions};
    /// # #[derive(Databag)]
    /// # struct Shop { visits: u32 }
    /// async fn end(sessions: Sessions<Shop, CookieStore>, id: SessionId) -> Result<bool, Error> {
    ///     sessions.delete(id).await
    /// }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Error> {
    /// # let sessions = Sessions::<Shop>::builder(CookieStore).danger_plaintext().build().await?;
    /// # end(sessions, SessionId::from_bytes([0; 32])).await?;
    /// # Ok(())
    /// # }
    /// ```
    #[derive(Clone, Copy, Debug, Default)]
    pub struct CookieStore;

    impl CookieStore {
        /// Makes the store. There is nothing to connect to.
        pub fn new() -> Self {
            Self
        }
    }

    /// A row travels with the answer and is never handed to the store. Whoever does hand one over, such as a store
    /// wrapped around this one, learns that it is kept by nobody.
    impl Store for CookieStore {
        const KEEPS_ROWS: bool = false;

        async fn prepare(&mut self, _: &Table, _: Duration) -> Result<(), StoreError> {
            Ok(())
        }

        async fn load(&self, _: SessionId) -> Result<Option<Row>, StoreError> {
            Err(keeps_no_rows("load a row"))
        }

        async fn insert(&self, _: Row) -> Result<(), StoreError> {
            Err(keeps_no_rows("add a row"))
        }

        async fn update(&self, _: Update) -> Result<Outcome, StoreError> {
            Err(keeps_no_rows("update a row"))
        }

        async fn delete(&self, _: SessionId) -> Result<bool, StoreError> {
            Err(keeps_no_rows("delete a row"))
        }
    }

    fn keeps_no_rows(operation: &'static str) -> StoreError {
        StoreError::new(operation, "`CookieStore` keeps none; it cannot be wrapped in another store")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::Hex;

    fn row(state: &[u8]) -> Row {
        Row {
            id: SessionId::from_bytes([7; 32]),
            state: state.to_vec(),
            user: None,
            ip: None,
            created: Timestamp::from_millis(1),
            expiration: Timestamp::from_millis(2),
            revision: 3,
            columns: Vec::new(),
        }
    }

    #[test]
    fn a_row_survives_its_token() {
        let token = pack(&row(b"state")).expect("long enough");
        assert_eq!(token.session_id(), row(b"").id);
        let parsed = Token::parse(&token.encode()).expect("canonical");
        assert_eq!(unpack(parsed.carried().expect("it carries a row")), Some(row(b"state")));
    }

    #[test]
    fn the_bytes_are_pinned() {
        let token = pack(&row(&[0xAB])).expect("long enough");
        let expected = format!("{}01{:016x}{:016x}{:016x}ab", "07".repeat(32), 1, 2, 3);
        assert_eq!(Hex(token.carried().expect("it carries a row")).to_string(), expected);
    }

    #[test]
    fn what_is_cut_off_or_of_another_version_is_no_row() {
        let token = pack(&row(b"")).expect("long enough");
        let bytes = token.carried().expect("it carries a row");
        assert!((0..bytes.len()).all(|length| unpack(&bytes[..length]).is_none()));
        let mut other = bytes.to_vec();
        other[32] = 2;
        assert_eq!(unpack(&other), None);
    }

    #[test]
    fn the_room_is_all_that_a_cookie_has() {
        for name in ["s", "ss", "sss", "__Host-shop"] {
            let length =
                |state: usize| name.len() + pack(&row(&vec![0; state])).expect("long enough").encode().len();
            assert!(length(room(name)) <= MAX_COOKIE, "{name}");
            assert!(length(room(name) + 1) > MAX_COOKIE, "{name}");
        }
        assert_eq!(room(&"n".repeat(5000)), 0);
    }
}
