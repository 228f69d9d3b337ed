const _: () = {
    use ::session_runtime::__private as __databag;
    struct __With0;
    #[automatically_derived]
    impl __databag::With<Shop> for __With0 {
        type Field = u128;
        fn serialize<__S: __databag::serde::Serializer>(
            __value: &u128,
            __serializer: __S,
        ) -> __databag::Result<__S::Ok, __S::Error> {
            hex::serialize(__value, __serializer)
        }
        fn deserialize<'__de, __D: __databag::serde::Deserializer<'__de>>(
            __deserializer: __D,
        ) -> __databag::Result<u128, __D::Error> {
            hex::deserialize(__deserializer)
        }
    }
    #[automatically_derived]
    #[allow(deprecated)]
    impl __databag::Databag for Shop {
        type Codec = __databag::Json;
        const SCHEMA: &'static __databag::Schema = &__databag::Schema {
            name: "session-derive/Shop",
            table: "sessions",
            columns: __databag::Columns {
                id: "id",
                state: "state",
                user_id: "user_id",
                ip_addr: "ip_addr",
                created: "created",
                expiration: "expiration",
                revision: "revision",
            },
            cookie: __databag::CookieSchema {
                name: "__Host-session",
                path: "/",
                domain: __databag::None,
                same_site: __databag::SameSite::Lax,
                secure: true,
                partitioned: false,
                persistence: __databag::Persistence::Browser,
            },
            idle: __databag::Duration::from_millis(1800000u64),
            absolute: __databag::Duration::from_millis(43200000u64),
            remember: __databag::Duration::from_millis(2592000000u64),
            max_per_user: __databag::None,
            version: 0u32,
            fields: &[
                __databag::Field::plain("pinCode"),
                __databag::Field {
                    aliases: &["count"],
                    ..__databag::Field::plain("visits")
                },
                __databag::Field {
                    flash: true,
                    keep_on_logout: true,
                    ..__databag::Field::plain("notice")
                },
            ],
        };
        fn defaults() -> Self {
            Self {
                pin_code: __databag::default_of::<u128>(),
                visits: __databag::default_of::<u32>(),
                seen: __databag::default_of::<bool>(),
                notice: __databag::default_of::<Option<String>>(),
            }
        }
        fn shapes(__shapes: &mut __databag::Shapes) {
            __shapes.field::<__databag::Json, __databag::Decoded<Self, __With0>>();
            __shapes.field::<__databag::Json, u32>();
            __databag::assert_stored_before::<u8>();
            __shapes.older::<__databag::Json, u8>();
            __shapes.field::<__databag::Json, Option<String>>();
        }
        fn encode(
            &self,
            __fields: &mut __databag::Encoder,
        ) -> __databag::Result<(), __databag::CodecError> {
            __fields
                .field::<
                    __databag::Json,
                    _,
                >(&__databag::Encoded::<Self, __With0>(&self.pin_code))?;
            __fields.field::<__databag::Json, u32>(&self.visits)?;
            __fields.field::<__databag::Json, Option<String>>(&self.notice)?;
            __databag::Ok(())
        }
        fn decode(&mut self, __fields: &mut __databag::Decoder<'_>) {
            __fields
                .field_with::<
                    __databag::Json,
                    __databag::Decoded<Self, __With0>,
                    u128,
                >(
                    0usize,
                    &mut self.pin_code,
                    __databag::Decoded::<Self, __With0>::into_field,
                );
            __fields.field::<__databag::Json, u32>(1usize, &mut self.visits);
            __databag::assert_stored_before::<u8>();
            __fields.older::<__databag::Json, u8, u32>(1usize, &mut self.visits);
            __fields.field::<__databag::Json, Option<String>>(2usize, &mut self.notice);
        }
        fn compare(
            &self,
            __field: __databag::usize,
            __encoded: &[__databag::u8],
            __comparison: __databag::Comparison,
        ) -> __databag::bool {
            #[allow(unused_imports)]
            use __databag::{ByEncoding as _, ByValue as _};
            match __field {
                0usize => {
                    __databag::compare_with::<
                        __databag::Json,
                        Self,
                        __With0,
                    >(
                        __comparison,
                        &self.pin_code,
                        __encoded,
                        (&__databag::EqualityProbe::<u128>::NEW).equality(),
                    )
                }
                1usize => {
                    __comparison
                        .canonical::<
                            __databag::Json,
                            u32,
                        >(
                            &self.visits,
                            __encoded,
                            (&__databag::EqualityProbe::<u32>::NEW).equality(),
                        )
                }
                2usize => {
                    __comparison
                        .canonical::<
                            __databag::Json,
                            Option<String>,
                        >(
                            &self.notice,
                            __encoded,
                            (&__databag::EqualityProbe::<Option<String>>::NEW).equality(),
                        )
                }
                _ => false,
            }
        }
        fn mark_flash(&mut self, __field: __databag::usize) {
            #[allow(unused_imports)]
            use __databag::{Markable as _, Unmarked as _};
            match __field {
                2usize => {
                    (&__databag::FlashProbe::<Option<String>>::NEW)
                        .mark(&mut self.notice)
                }
                _ => {}
            }
        }
        fn is_flash_marked(&self, __field: __databag::usize) -> __databag::bool {
            #[allow(unused_imports)]
            use __databag::{Markable as _, Unmarked as _};
            match __field {
                2usize => {
                    (&__databag::FlashProbe::<Option<String>>::NEW)
                        .is_marked(&self.notice)
                }
                _ => true,
            }
        }
    }
    #[automatically_derived]
    #[allow(dead_code)]
    impl Shop {}
};
