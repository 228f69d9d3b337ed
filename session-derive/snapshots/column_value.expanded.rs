const _: () = {
    use ::session_runtime::__private as __databag;
    #[automatically_derived]
    #[allow(deprecated)]
    impl __databag::ColumnValue for Theme {
        const TYPE: __databag::ColumnType = __databag::ColumnType::Text;
        fn to_value(&self) -> __databag::Value {
            __databag::text(
                match self {
                    Self::Light { .. } => "light",
                    Self::Dark { .. } => "night",
                    Self::HighContrast { .. } => "high-contrast",
                },
            )
        }
    }
};
