//! The three worlds of `wit/plugin@0.1`. The shared types are generated once, with the editor's world, and the other two
//! use them: plugins see one set of types, natively as well as in a component. A list of records of numbers arrives as a
//! `Vec` of `repr(C)` structs with no work per element.

pub mod editor {
    wit_bindgen::generate!({
        path: "../../wit/plugin@0.1",
        world: "editor-plugin",
        pub_export_macro: true,
        default_bindings_module: "sdk::bindings::editor",
        additional_derives: [PartialEq, Default],
    });
}

pub mod formatter {
    wit_bindgen::generate!({
        path: "../../wit/plugin@0.1",
        world: "formatter-plugin",
        pub_export_macro: true,
        default_bindings_module: "sdk::bindings::formatter",
        additional_derives: [PartialEq, Default],
        with: {
            "bucksaw:plugin/types@0.1.0": crate::bindings::editor::bucksaw::plugin::types,
        },
    });
}

pub mod handler {
    wit_bindgen::generate!({
        path: "../../wit/plugin@0.1",
        world: "handler-plugin",
        pub_export_macro: true,
        default_bindings_module: "sdk::bindings::handler",
        additional_derives: [PartialEq, Default],
        with: {
            "bucksaw:plugin/types@0.1.0": crate::bindings::editor::bucksaw::plugin::types,
        },
    });
}
