//! Gloo's `HttpListenerOption` documents, taken as they are.
//!
//! A document binds its session to listeners by `targetRefs`: a Gateway's name stands for all its listeners,
//! with `sectionName` for one. What the document says about sessions is honoured; any other option is refused,
//! since a setting that is silently without effect is worse than an error. `metadata` beyond name and namespace,
//! and `status`, are Kubernetes' own records and configure nothing, there or here.

use super::error::{At, Placed, Problems};
use super::reader::{Fields, placed, some, text};
use super::session::{Dialect, SessionModel, session};
use super::tree::{Kind, Node};

/// The API version and kind by which a document is known.
pub(super) const API_VERSION: &str = "gateway.solo.io/v1";
pub(super) const KIND: &str = "HttpListenerOption";
const GATEWAY_GROUP: &str = "gateway.networking.k8s.io";

/// One document.
#[derive(Debug)]
pub(super) struct ListenerOption {
    /// Where it begins.
    pub(super) at: At,
    /// Its name, for messages.
    pub(super) name: String,
    /// What it binds to.
    pub(super) targets: Vec<Target>,
    /// What it sets.
    pub(super) session: Placed<SessionModel>,
}

/// One entry of `targetRefs`.
#[derive(Debug)]
pub(super) struct Target {
    /// The gateway's name.
    pub(super) gateway: Placed<String>,
    /// One listener of it; `None`: all.
    pub(super) section: Option<Placed<String>>,
}

/// Whether a document says that it is of some kind of Kubernetes resource.
pub(super) fn is_resource(document: &Node) -> bool {
    document.peek("apiVersion").is_some() || document.peek("kind").is_some()
}

/// Reads a document.
pub(super) fn read(document: &Node, problems: &mut Problems) -> Option<ListenerOption> {
    let mut fields = Fields::open(document, "the document", problems)?;
    let version = fields.required("apiVersion", "apiVersion: gateway.solo.io/v1", problems, is(API_VERSION));
    let kind = fields.required("kind", "kind: HttpListenerOption", problems, is(KIND));
    // Another kind of resource has other fields: to report those would bury what matters.
    version.and(kind)?;
    let metadata = fields.required("metadata", "metadata: { name: session }", problems, metadata);
    let spec =
        fields.required("spec", "spec: { targetRefs: […], options: {…} }", problems, |node, problems| {
            let mut fields = Fields::open(node, "`spec`", problems)?;
            let namespace = metadata.as_ref().and_then(|metadata| metadata.namespace.as_deref());
            let read_target = |node: &Node, problems: &mut Problems| target(node, namespace, problems);
            let example = "targetRefs: [{ group: gateway.networking.k8s.io, kind: Gateway, name: http }]";
            let targets = fields.required("targetRefs", example, problems, some(read_target));
            let session = fields.required("options", "options: { statefulSession: {…} }", problems, options);
            fields.finish(problems);
            Some((targets?.0, session?))
        });
    // Written by the control plane of Kubernetes, not by the user.
    let _ = fields.get("status");
    fields.finish(problems);
    let (targets, session) = spec?;
    Some(ListenerOption { at: document.at.clone(), name: metadata?.name, targets, session })
}

struct Metadata {
    name: String,
    namespace: Option<String>,
}

fn metadata(node: &Node, problems: &mut Problems) -> Option<Metadata> {
    let mut fields = Fields::open(node, "`metadata`", problems)?;
    let name = fields.required("name", "name: session", problems, text);
    let namespace = fields.optional("namespace", problems, text);
    Some(Metadata { name: name?, namespace })
}

fn target(node: &Node, namespace: Option<&str>, problems: &mut Problems) -> Option<Target> {
    let mut fields = Fields::open(node, "a target", problems)?;
    fields.optional("group", problems, is(GATEWAY_GROUP));
    let kind = fields.required("kind", "kind: Gateway", problems, is("Gateway"));
    let gateway = fields.required("name", "name: http", problems, placed(text));
    let section = fields.optional("sectionName", problems, placed(text));
    fields.optional("namespace", problems, |node, problems| {
        let given = text(node, problems)?;
        if Some(&*given) != namespace {
            let own = namespace.map_or_else(|| "has none".into(), |own| format!("is in {own:?}"));
            let what = format!("the target is in the namespace {given:?}, but the document {own}");
            problems.add(&node.at, what, "Homing knows gateways by name alone: remove this key");
        }
        Some(())
    });
    fields.finish(problems);
    kind?;
    Some(Target { gateway: gateway?, section })
}

fn options(node: &Node, problems: &mut Problems) -> Option<Placed<SessionModel>> {
    let mut fields = Fields::open(node, "`options`", problems)?;
    let example = "statefulSession: { headerBased: { headerName: x-session-id } }";
    let session = fields.required("statefulSession", example, problems, session(Dialect::Gloo));
    fields.finish_with(problems, |_| {
        let what = "Homing honours `statefulSession` alone among Gloo's listener options";
        (what.into(), "remove this option, or leave its job to another proxy".into())
    });
    session
}

/// This text and no other.
fn is(expected: &'static str) -> impl FnOnce(&Node, &mut Problems) -> Option<()> {
    move |node, problems| {
        if matches!(&node.kind, Kind::Text(text) if text == expected) {
            return Some(());
        }
        let what = format!("expected {expected:?}, found {}", node.describe());
        problems.add(
            &node.at,
            what,
            "only HttpListenerOption documents that target a Gateway are understood",
        );
        None
    }
}
