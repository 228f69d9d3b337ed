//! A codec of your own: sessions as MessagePack. `cargo run -p examples --example messagepack`.

use std::collections::BTreeMap;

use serde::Serialize;
use serde::de::DeserializeOwned;
use session_runtime::{Codec, CodecError, Databag, Framing, Keyring, Sessions, SqliteStore};

struct MessagePack;

impl Codec for MessagePack {
    const NAME: &'static str = "messagepack";
    const FRAMING: Framing = Framing::Binary;
    const HUMAN_READABLE: bool = false;

    fn encode<T: Serialize + ?Sized>(value: &T, out: &mut Vec<u8>) -> Result<(), CodecError> {
        rmp_serde::encode::write(out, value).map_err(CodecError::new)
    }

    fn decode<T: DeserializeOwned>(mut bytes: &[u8]) -> Result<T, CodecError> {
        // The cause would quote the value, and errors are logged.
        let value = rmp_serde::decode::from_read(&mut bytes);
        let value = value.map_err(|_| CodecError::new("the bytes do not decode as the requested type"))?;
        if bytes.is_empty() { Ok(value) } else { Err(CodecError::new("unread bytes follow the value")) }
    }
}

#[derive(Databag)]
#[databag(codec = MessagePack, table = "carts")]
struct Shop {
    cart: BTreeMap<String, u32>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let sessions =
        Sessions::<Shop>::builder(SqliteStore::in_memory()?).keyring(Keyring::generate()).build().await?;
    let cart = BTreeMap::from([("apple".to_owned(), 3)]);
    let (token, _) = sessions.create(Shop { cart }).await?;
    let session = sessions.load(&token).await?.ok_or("the session is gone")?;
    println!("{:?}", session.cart());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unread_bytes_after_a_value_are_an_error() {
        let mut bytes = Vec::new();
        MessagePack::encode(&7, &mut bytes).expect("a number can be encoded");
        assert_eq!(MessagePack::decode::<i64>(&bytes).expect("it was encoded so"), 7);
        bytes.push(0);
        MessagePack::decode::<i64>(&bytes).expect_err("that is more than a number");
    }

    #[test]
    fn the_program_runs() {
        main().expect("the example runs");
    }
}
