//! How each program is told what to serve.

use std::net::Ipv4Addr;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use super::{DhcpServer, Family, Pool, Program};
use crate::exec::Run;

impl DhcpServer<'_> {
    /// The first and the last address.
    fn range(&self) -> [String; 2] {
        [0, self.pool.addresses - 1].map(|n| match self.pool.family {
            Family::V4 => format!("10.7.0.{}", 50 + u16::from(n)),
            Family::V6 => format!("fd07::{:x}", 0x50 + u16::from(n)),
        })
    }

    /// What its file of leases says of one to another client, which lasts for a day.
    pub(super) fn lease_of_another(&self, address: &str) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970");
        let end = now.as_secs() + 86_400;
        match self.program {
            Program::Dnsmasq => format!("{end} 02:00:00:00:07:07 {address} * 00:07\n"),
            Program::Kea => format!(
                "address,hwaddr,client_id,valid_lifetime,expire,subnet_id,fqdn_fwd,fqdn_rev,hostname,state,user_context\n\
                 {address},02:00:00:00:07:07,00:07,86400,{end},1,0,0,,0,\n"
            ),
            Program::Isc => format!(
                "lease {address} {{ starts epoch 1; ends epoch {end}; binding state active; \
                 hardware ethernet 02:00:00:00:07:07; uid \"\\000\\007\"; }}\n"
            ),
        }
    }

    pub(super) fn dnsmasq(&self) -> Run {
        let ([first, last], Pool { lease, times: [renew, rebind], via, .. }) =
            (self.range(), self.pool);
        let [range, options] = match self.pool.family {
            Family::V4 => [
                format!("{first},{last},255.255.255.0,{lease}"),
                format!(
                    "3,10.7.0.1 6,10.7.0.2 15,example.org 26,1400 58,{renew} 59,{rebind} \
                     option:classless-static-route,10.9.0.0/16,10.7.0.{via},0.0.0.0/0,10.7.0.1"
                ),
            ],
            Family::V6 => [
                format!("{first},{last},64,{lease}"),
                "option6:dns-server,[fd07::2] option6:domain-search,example.org".to_owned(),
            ],
        };
        self.host()
            .cmd([
                "dnsmasq",
                "--keep-in-foreground",
                "--conf-file=/dev/null",
                "--port=0",
                "--user=root",
            ])
            .args(["--bind-interfaces", "--dhcp-authoritative", "--no-ping"])
            .args(["--log-dhcp", "--log-facility=-", "--pid-file=", "--dhcp-lease-max=1000"])
            .args([
                format!("--interface={}", self.interface()),
                format!("--dhcp-leasefile={}", self.leases.display()),
                format!("--dhcp-range={range}"),
            ])
            .args(options.split(' ').map(|option| format!("--dhcp-option={option}")))
    }

    pub(super) fn kea(&self) -> Run {
        let ([first, last], Pool { lease, times: [renew, rebind], via, .. }) =
            (self.range(), self.pool);
        let pools = json!([{ "pool": format!("{first}-{last}") }]);
        let option = |name: &str, data: &str| json!({ "name": name, "data": data });
        let leases = json!({ "type": "memfile", "name": self.leases, "lfc-interval": 0 });
        let log = |name: &str| {
            let output = json!([{ "output": "stdout", "flush": true }]);
            json!([{ "name": name, "severity": "DEBUG", "debuglevel": 50, "output_options": output }])
        };
        let conf: Value = match self.pool.family {
            Family::V4 => json!({ "Dhcp4": {
                "interfaces-config": { "interfaces": [self.interface()] }, "lease-database": leases, "authoritative": true,
                "valid-lifetime": lease, "renew-timer": renew, "rebind-timer": rebind, "loggers": log("kea-dhcp4"),
                "subnet4": [{ "subnet": "10.7.0.0/24", "pools": pools, "option-data": [
                    option("routers", "10.7.0.1"), option("domain-name-servers", "10.7.0.2"),
                    option("domain-name", "example.org"), option("interface-mtu", "1400"),
                    // 10.9.0.0/16 by 10.7.0.3 or another, 0.0.0.0/0 by 10.7.0.1; this Kea knows the option by its number alone.
                    { "code": 121, "csv-format": false, "data": format!("100A090A0700{via:02X}000A070001") }] }] } }),
            Family::V6 => json!({ "Dhcp6": {
                "interfaces-config": { "interfaces": [self.interface()] }, "lease-database": leases,
                "server-id": { "type": "EN", "enterprise-id": 2495, "identifier": "0123456789", "persist": false },
                "valid-lifetime": lease, "preferred-lifetime": lease, "renew-timer": renew,
                "rebind-timer": rebind, "loggers": log("kea-dhcp6"),
                "subnet6": [{ "subnet": "fd07::/64", "interface": self.interface(), "pools": pools, "option-data": [
                    option("dns-servers", "fd07::2"), option("domain-search", "example.org")] }] } }),
        };
        let program = match self.pool.family {
            Family::V4 => "kea-dhcp4",
            Family::V6 => "kea-dhcp6",
        };
        // It keeps a file about itself, and one of its process.
        let dir = self.node.fresh_path("kea");
        std::fs::create_dir_all(&dir).unwrap_or_else(|e| panic!("making {}: {e}", dir.display()));
        std::fs::create_dir_all("/var/lib/kea")
            .unwrap_or_else(|e| panic!("making /var/lib/kea: {e}"));
        self.host()
            .cmd([program, "-c"])
            .args([self.node.json_file("kea.json", &conf)])
            .env("KEA_PIDFILE_DIR", &dir)
            .env("KEA_LOCKFILE_DIR", &dir)
    }

    pub(super) fn isc(&self) -> Run {
        let ([first, last], Pool { lease, times: [renew, rebind], prefix, via, .. }) =
            (self.range(), self.pool);
        let general = format!(
            "authoritative; ddns-update-style none; ping-check false; \
             default-lease-time {lease}; max-lease-time {lease}; min-lease-time {lease};\n"
        );
        let mask = Ipv4Addr::from(u32::MAX << (32 - prefix));
        let (flag, own) = match self.pool.family {
            Family::V4 => (
                "-4",
                format!(
                    "option classless code 121 = array of unsigned integer 8;\n\
                     option dhcp-renewal-time {renew}; option dhcp-rebinding-time {rebind};\n\
                     subnet 10.7.0.0 netmask 255.255.255.0 {{ range {first} {last}; option routers 10.7.0.1; \
                     option subnet-mask {mask}; \
                     option domain-name-servers 10.7.0.2; option domain-name \"example.org\"; option interface-mtu 1400; \
                     option classless 16,10,9,10,7,0,{via},0,10,7,0,1; }}\n"
                ),
            ),
            Family::V6 => (
                "-6",
                format!(
                    "preferred-lifetime {lease}; option dhcp-renewal-time {renew}; option dhcp-rebinding-time {rebind};\n\
                     subnet6 fd07::/64 {{ range6 {first} {last}; option dhcp6.name-servers fd07::2; \
                     option dhcp6.domain-search \"example.org\"; }}\n"
                ),
            ),
        };
        let conf = self.node.fresh_path("dhcpd.conf");
        self.node.write(&conf, &format!("{general}{own}"));
        if !self.leases.exists() {
            self.node.write(&self.leases, "");
        }
        self.host()
            .cmd(["dhcpd", flag, "-d", "-f", "-user", "root", "-group", "root", "--no-pid", "-cf"])
            .args([
                conf.as_os_str(),
                "-lf".as_ref(),
                self.leases.as_os_str(),
                self.interface().as_ref(),
            ])
    }
}
