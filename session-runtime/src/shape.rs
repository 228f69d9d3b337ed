//! Shapes: what a stored type looks like on the wire, found out by asking its `Deserialize`.

use serde::de::DeserializeOwned;

use crate::codec::Codec;

/// Collects the shapes of a bag's stored fields.
#[derive(Debug)]
#[doc(hidden)]
pub struct Shapes {
    human_readable: bool,
    fields: Vec<FieldShape>,
}

#[derive(Debug)]
pub(crate) struct FieldShape {
    pub(crate) fingerprint: u64,
    pub(crate) older: Option<u64>,
}

#[doc(hidden)]
impl Shapes {
    /// Notes the type of the next field.
    pub fn field<T: DeserializeOwned>(&mut self) {
        todo!()
    }

    /// Notes the type that the last field was stored as before.
    pub fn older<T: DeserializeOwned>(&mut self) {
        todo!()
    }
}

impl Shapes {
    pub(crate) fn new<C: Codec>() -> Self {
        Self { human_readable: C::HUMAN_READABLE, fields: Vec::new() }
    }

    pub(crate) fn finish(self) -> Vec<FieldShape> {
        self.fields
    }
}
