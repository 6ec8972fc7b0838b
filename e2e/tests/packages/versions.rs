//! One version of a package per node.

use e2e::agent::Node;
use e2e::scenarios::Scenario;

use super::support::*;

pub(super) const ALL: &[Scenario] = scenarios![versions];

fn versions(node: &Node) {
    ready(node, "old", "image: sk-versions=1.0-1");
    says(node, "old", "sk-versions: 1.0-1\n");
    // What is there will do for a bare name, even with Always while another pod uses it.
    ready(node, "bare", "image: sk-versions, imagePullPolicy: Always");
    says(node, "bare", "sk-versions: 1.0-1\n");
    event(node, "bare", "Warning", "ImageUnverified", "sk-versions 2.0-1 is available; 1.0-1 stays");
    gone(node, "bare");

    apply(node, "new", &pod("new", "image: 'sk-versions:2.0'"));
    waits(node, "new", "ErrImagePull", &["sk-versions 1.0-1 is in use by pod default/old", "maxSurge: 0"]);
    gone(node, "old");
    node.wait_ready("new").unwrap();
    says(node, "new", "sk-versions: 2.0-1\n");
    gone(node, "new");
    // Down again only because it is asked for.
    ready(node, "old", "image: 'sk-versions:1.0'");
    says(node, "old", "sk-versions: 1.0-1\n");
    gone(node, "old");
    ready(node, "newest", "image: sk-versions, imagePullPolicy: Always");
    says(node, "newest", "sk-versions: 2.0-1\n");
    apply(node, "none", &pod("none", "image: 'sk-versions=3*'"));
    waits(node, "none", "ErrImagePull", &["no version of sk-versions matches", "2.0-1, 1.0-1"]);
    gone(node, "none");
    gone(node, "newest");
}
