//! `serviceAccountToken` of a projected volume: which token it is, and whose its file is. Asking for it is the agent's
//! part.

use k8s_openapi::api::core::v1::{PodSpec, ServiceAccountTokenProjection, Volume};

use super::{Content, Payload, path};
use crate::fields::identity;
use crate::inputs::TokenKey;
use crate::pod::spec_containers;

/// How long a token is to be valid of which the pod does not say it, in seconds (the API's default).
const DEFAULT_EXPIRATION_SECONDS: i64 = 3600;

/// Why a pod of a manifest has none.
const NO_API_SERVER: &str = "needs an API server, and none knows this pod: it is a manifest's";

/// The tokens that a volume needs.
pub(crate) fn needed(volume: &Volume) -> impl Iterator<Item = TokenKey> + '_ {
    let sources = volume.projected.iter().flat_map(|projected| projected.sources.iter().flatten());
    sources.filter_map(|source| source.service_account_token.as_ref()).map(key)
}

fn key(projection: &ServiceAccountTokenProjection) -> TokenKey {
    TokenKey {
        audience: projection.audience.clone().filter(|audience| !audience.is_empty()),
        expiration_seconds: projection.expiration_seconds.unwrap_or(DEFAULT_EXPIRATION_SECONDS),
    }
}

/// The one numeric user that every container runs as (`FsUserFrom` of the kubelet); None: there is not just one, or a
/// container does not say.
fn fs_user(spec: &PodSpec) -> Option<u32> {
    let mut users = spec_containers(spec).map(|container| identity::user_id(spec, container));
    let first = users.next()??;
    users.all(|user| user == Some(first)).then_some(first)
}

impl Payload<'_> {
    /// `mode` is the volume's. It is for root's file that all may read; one that has an owner or a group is for them alone
    /// (`collectData` of the kubelet's projected volumes; `fsGroup` makes 0640 of 0600 afterwards).
    pub(super) fn service_account_token(&mut self, at: &str, source: &ServiceAccountTokenProjection, mode: u32) {
        let ServiceAccountTokenProjection { audience: _, expiration_seconds: _, path: target, user } = source;
        self.refuse_user(&format!("{at}.user"), *user);
        let target = match path::clean(target) {
            Ok(target) => target,
            Err(reason) => return self.reasons.refuse(format!("{at}.path"), reason),
        };
        let Some(cluster) = &self.input.gathered.cluster else { return self.reasons.refuse(at, NO_API_SERVER) };
        let spec = self.input.pod.spec.as_ref();
        let uid = spec.and_then(fs_user);
        let grouped = spec.and_then(|s| s.security_context.as_ref()).is_some_and(|c| c.fs_group.is_some());
        let mode = if uid.is_some() || grouped { 0o600 } else { mode };
        match cluster.tokens.get(&key(source)) {
            Some(Ok(token)) => {
                self.files.insert(target, Content { data: token.as_bytes().to_vec(), mode, uid });
            }
            Some(Err(why)) => self.block(why),
            None => self.block("failed to fetch token: it was not asked for yet"),
        }
    }
}
