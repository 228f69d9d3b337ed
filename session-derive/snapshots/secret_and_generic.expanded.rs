const _: () = {
    use facade::databag::__private as __databag;
    #[automatically_derived]
    #[allow(deprecated)]
    impl<T, const N: usize> __databag::Databag for Shop<T, N>
    where
        T: Clone,
        T: 'static,
        Vec<T>: __databag::HasDefault,
        Vec<T>: __databag::Stored,
        [u8; N]: __databag::HasDefault,
        [u8; N]: __databag::Stored,
    {
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
            fields: &[__databag::Field::plain("items"), __databag::Field::plain("pins")],
        };
        fn defaults() -> Self {
            Self {
                items: __databag::default_of::<Vec<T>>(),
                pins: __databag::default_of::<[u8; N]>(),
            }
        }
        fn shapes(__shapes: &mut __databag::Shapes) {
            __databag::assert_stored::<Vec<T>>();
            __shapes.field::<__databag::Bincode, Vec<T>>();
            __shapes.field::<__databag::Bincode, [u8; N]>();
        }
        fn encode(
            &self,
            __fields: &mut __databag::Encoder,
        ) -> __databag::Result<(), __databag::CodecError> {
            __databag::assert_stored::<Vec<T>>();
            __fields.field::<__databag::Bincode, Vec<T>>(&self.items)?;
            __fields.field::<__databag::Bincode, [u8; N]>(&self.pins)?;
            __databag::Ok(())
        }
        fn decode(&mut self, __fields: &mut __databag::Decoder<'_>) {
            __databag::assert_stored::<Vec<T>>();
            __fields.field::<__databag::Bincode, Vec<T>>(0usize, &mut self.items);
            __fields.field::<__databag::Bincode, [u8; N]>(1usize, &mut self.pins);
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
                    __databag::assert_stored::<Vec<T>>();
                    __comparison
                        .field::<
                            __databag::Bincode,
                            Vec<T>,
                        >(
                            &self.items,
                            __encoded,
                            (&__databag::EqualityProbe::<Vec<T>>::NEW).equality(),
                        )
                }
                1usize => {
                    __comparison
                        .canonical::<
                            __databag::Bincode,
                            [u8; N],
                        >(
                            &self.pins,
                            __encoded,
                            (&__databag::EqualityProbe::<[u8; N]>::NEW).equality(),
                        )
                }
                _ => false,
            }
        }
    }
    #[automatically_derived]
    #[allow(deprecated)]
    impl<T, const N: usize> __databag::fmt::Debug for Shop<T, N>
    where
        T: Clone,
        Vec<T>: __databag::fmt::Debug,
    {
        fn fmt(
            &self,
            __formatter: &mut __databag::fmt::Formatter<'_>,
        ) -> __databag::fmt::Result {
            __formatter
                .debug_struct("Shop")
                .field("items", &self.items)
                .field("pins", &::core::format_args!("<redacted>"))
                .finish()
        }
    }
    #[automatically_derived]
    #[allow(dead_code)]
    impl<T, const N: usize> Shop<T, N>
    where
        T: Clone,
    {}
};
