use serde_json::json;

use super::*;

fn of(keys: Value) -> Settings {
    Settings::of(keys.as_object().unwrap())
}

#[test]
fn what_is_absent_or_null_has_multus_defaults() {
    for keys in
        [json!({}), json!({ "logOptions": {} }), json!({ "logOptions": { "maxAge": null } })]
    {
        assert_eq!(of(keys), Settings::default());
    }
}

#[test]
fn a_value_that_is_none_is_told_and_takes_nothing_from_the_others() {
    for (options, wrong) in [
        (json!({ "maxSize": -1, "maxAge": 9 }), "logOptions.maxSize -1 is not a whole number"),
        (
            json!({ "maxsize": "big", "maxage": 9 }),
            "logOptions.maxSize \"big\" is not a whole number",
        ),
        (json!({ "maxSize": 1e40, "maxAge": 9 }), "logOptions.maxSize 1e+40 is not a whole number"),
        (json!({ "compress": 1, "maxAge": 9 }), "logOptions.compress 1 is not true or false"),
    ] {
        let settings = of(json!({ "logFile": "/log", "logOptions": options }));
        assert_eq!(settings.rotation, Rotation { max_age: 9, ..Rotation::default() });
        assert_eq!(settings.file, Some("/log".into()));
        assert!(settings.wrong.len() == 1 && settings.wrong[0].starts_with(wrong), "{settings:?}");
    }
    for keys in [
        json!({ "logOptions": 1 }),
        json!({ "logFile": {} }),
        json!({ "logLevel": 3 }),
        json!({ "logToStderr": "yes" }),
    ] {
        let settings = of(keys);
        assert_eq!(settings.wrong.len(), 1);
        assert_eq!(Settings { wrong: Vec::new(), ..settings }, Settings::default());
    }
}
