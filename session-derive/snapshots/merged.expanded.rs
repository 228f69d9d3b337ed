const _: () = {
    use ::session_runtime::__private as __databag;
    #[automatically_derived]
    #[allow(deprecated)]
    impl __databag::Databag for Shop {
        type Codec = __databag::Bincode;
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
                __databag::Field::plain("cart"),
                __databag::Field::plain("visits"),
                __databag::Field::plain("note"),
                __databag::Field::plain("address"),
            ],
        };
        fn defaults() -> Self {
            Self {
                cart: __databag::default_of::<HashMap<String, u32>>(),
                visits: __databag::default_of::<u32>(),
                note: __databag::default_of::<String>(),
                address: __databag::default_of::<String>(),
            }
        }
        fn shapes(__shapes: &mut __databag::Shapes) {
            __databag::assert_stored::<HashMap<String, u32>>();
            __shapes.field::<__databag::Bincode, HashMap<String, u32>>();
            __shapes.field::<__databag::Bincode, u32>();
            __shapes.field::<__databag::Bincode, String>();
            __shapes.field::<__databag::Bincode, String>();
        }
        fn encode(
            &self,
            __fields: &mut __databag::Encoder,
        ) -> __databag::Result<(), __databag::CodecError> {
            __databag::assert_stored::<HashMap<String, u32>>();
            __fields.field::<__databag::Bincode, HashMap<String, u32>>(&self.cart)?;
            __fields.field::<__databag::Bincode, u32>(&self.visits)?;
            __fields.field::<__databag::Bincode, String>(&self.note)?;
            __fields.field::<__databag::Bincode, String>(&self.address)?;
            __databag::Ok(())
        }
        fn decode(&mut self, __fields: &mut __databag::Decoder<'_>) {
            __databag::assert_stored::<HashMap<String, u32>>();
            __fields
                .field::<
                    __databag::Bincode,
                    HashMap<String, u32>,
                >(0usize, &mut self.cart);
            __fields.field::<__databag::Bincode, u32>(1usize, &mut self.visits);
            __fields.field::<__databag::Bincode, String>(2usize, &mut self.note);
            __fields.field::<__databag::Bincode, String>(3usize, &mut self.address);
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
                    __databag::assert_stored::<HashMap<String, u32>>();
                    __comparison
                        .field::<
                            __databag::Bincode,
                            HashMap<String, u32>,
                        >(
                            &self.cart,
                            __encoded,
                            (&__databag::EqualityProbe::<HashMap<String, u32>>::NEW)
                                .equality(),
                        )
                }
                1usize => {
                    __comparison
                        .canonical::<
                            __databag::Bincode,
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
                            __databag::Bincode,
                            String,
                        >(
                            &self.note,
                            __encoded,
                            (&__databag::EqualityProbe::<String>::NEW).equality(),
                        )
                }
                3usize => {
                    __comparison
                        .canonical::<
                            __databag::Bincode,
                            String,
                        >(
                            &self.address,
                            __encoded,
                            (&__databag::EqualityProbe::<String>::NEW).equality(),
                        )
                }
                _ => false,
            }
        }
        fn merge(
            __field: __databag::usize,
            __versions: __databag::FieldVersions<'_>,
        ) -> __databag::Result<__databag::MergeOutcome, __databag::CodecError> {
            #[allow(unused_imports)]
            use __databag::{
                ByEncoding as _, ByValue as _, EntriesByDefault as _, LastByDefault as _,
            };
            match __field {
                0usize => {
                    (&__databag::DefaultMergeProbe::<HashMap<String, u32>>::NEW)
                        .merge::<
                            __databag::Bincode,
                        >(
                            __versions,
                            (&__databag::EqualityProbe::<HashMap<String, u32>>::NEW)
                                .equality(),
                        )
                }
                1usize => __versions.sum::<__databag::Bincode, u32>(),
                2usize => {
                    __versions
                        .function::<
                            __databag::Bincode,
                            String,
                        >(longer, (&__databag::EqualityProbe::<String>::NEW).equality())
                }
                3usize => __databag::Ok(__databag::MergeOutcome::Conflict),
                _ => __databag::Ok(__databag::MergeOutcome::Ours),
            }
        }
    }
    #[automatically_derived]
    #[allow(dead_code)]
    impl Shop {}
};
