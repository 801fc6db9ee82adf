use super::*;

/// A foreign plugin that keeps a file for each container, and a log of the requests it got.
const KEEPER: &str = r#"
cat > "$HOST/stdin.$CNI_COMMAND"
case "$CNI_COMMAND" in
ADD)
    touch "$HOST/kept.$CNI_CONTAINERID"
    echo '{"cniVersion":"1.0.0","interfaces":[{"name":"far0","sandbox":"'"$CNI_NETNS"'"}],"x-vendor":1}' ;;
DEL) rm -f "$HOST/kept.$CNI_CONTAINERID" ;;
esac"#;

fn stdin(host: &Host, verb: &str) -> Value {
    serde_json::from_slice(&std::fs::read(host.path(&format!("stdin.{verb}"))).unwrap()).unwrap()
}

#[test]
fn both_kinds_of_delegates_mix_and_what_was_put_off_is_done_before_a_foreign_one() {
    let (host, mut world) = (Host::new(), World::default());
    host.script("keeper", KEEPER);
    let list = chain(&["ports", "keeper", "link"]);
    let attachment = host.attachment();
    let steps = RefCell::new(Vec::new());
    let observer = |step: &Step<'_>| {
        steps.borrow_mut().push(format!("{} {:?}", step.delegate, step.kind));
    };
    let request = Request { observer: Some(&observer), ..request(&list, &attachment) };
    let result = host.executor().add(&request, &mut world).unwrap();
    assert_eq!(
        steps.take(),
        ["ports BuiltIn", "flush Flush", "keeper Foreign", "link BuiltIn", "flush Flush"]
    );
    let names: Vec<_> = result.interfaces.iter().map(|i| i.name.as_str()).collect();
    assert_eq!(names, ["far0", "link"], "the foreign delegate did not pass on prevResult");
    assert_eq!(result.extra["x-vendor"], 1);
    let request_of_add = stdin(&host, "ADD");
    assert_eq!(request_of_add["prevResult"]["interfaces"][0]["name"], "ports");
    assert_eq!(request_of_add["prevResult"]["cniVersion"], "1.1.0");
    assert!(host.path("kept.c1").exists());

    host.executor().del(&request, &mut world).unwrap();
    assert_eq!(
        steps.take(),
        ["link BuiltIn", "flush Flush", "keeper Foreign", "ports BuiltIn", "flush Flush"]
    );
    assert_eq!(stdin(&host, "DEL")["prevResult"]["interfaces"][1]["name"], "link");
    assert!(!host.path("kept.c1").exists() && world.made.is_empty());
}

#[test]
fn a_failed_foreign_delegate_is_deleted_too_and_its_error_kept() {
    let (host, mut world) = (Host::new(), World::default());
    host.script(
        "broken",
        r#"if [ "$CNI_COMMAND" = DEL ]; then rm -f "$HOST/half"; exit 0; fi
touch "$HOST/half"; echo '{"code":117,"msg":"no such VLAN","details":"eno1"}'; exit 1"#,
    );
    let error = host.add(&chain(&["link", "broken"]), &mut world).unwrap_err();
    assert_eq!(error.code, Code::Other(117));
    assert_eq!(error.msg, "delegate 2 of 2 failed: broken: no such VLAN");
    assert_eq!(error.details, "eno1; rolled back: broken, link");
    assert!(!host.path("half").exists() && world.made.is_empty());
}

#[test]
fn exec_true_is_kept_for_del_and_hidden_from_the_executable() {
    let (host, mut world) = (Host::new(), World::default());
    host.script("link", KEEPER);
    let list = ConfList::from_value(json!({
        "cniVersion": "0.3.1", "name": "net", "plugins": [{ "type": "link", "exec": true, "keep": null }],
    }))
    .unwrap();
    host.add(&list, &mut world).unwrap();
    let request = stdin(&host, "ADD");
    assert_eq!(
        request,
        json!({ "cniVersion": "0.3.1", "name": "net", "type": "link", "keep": null })
    );

    // The list has lost it meanwhile; and before 0.4.0 DEL gets no prevResult.
    host.del(&chain(&["link"]), &mut world).unwrap();
    assert!(world.log.is_empty() && !host.path("kept.c1").exists());
    assert_eq!(stdin(&host, "DEL").get("prevResult"), None);
}

#[test]
fn gc_tells_a_foreign_delegate_under_both_names_what_is_valid() {
    let (host, mut world) = (Host::new(), World::default());
    host.script("keeper", KEEPER);
    let valid = [crate::ValidAttachment { container_id: "c1".into(), ifname: "eth0".into() }];
    host.executor().gc("net", &chain(&["keeper"]), &valid, None, &mut world).unwrap();
    let request = stdin(&host, "GC");
    let expected = json!([{ "containerID": "c1", "ifname": "eth0" }]);
    assert_eq!(request["cni.dev/valid-attachments"], expected);
    assert_eq!(request["cni.dev/attachments"], expected);
}

#[test]
fn a_del_whose_executable_is_gone_keeps_the_record() {
    let (host, mut world) = (Host::new(), World::default());
    host.script("keeper", KEEPER);
    let list = chain(&["link", "keeper"]);
    host.add(&list, &mut world).unwrap();
    let executable = host.path("bin").join("keeper");
    std::fs::rename(&executable, host.path("elsewhere")).unwrap();
    let error = host.del(&list, &mut world).unwrap_err();
    assert!(error.msg.contains("CNI_PATH has none of this name"), "{error}");
    assert!(world.made.is_empty() && host.records().len() == 1);
    std::fs::rename(host.path("elsewhere"), &executable).unwrap();

    // Also found where ADD found it, if the caller looks elsewhere now.
    let mut executor = host.executor();
    executor.runner.path = vec![];
    executor.del(&request(&list, &host.attachment()), &mut world).unwrap();
    assert!(host.records().is_empty() && !host.path("kept.c1").exists());
}
