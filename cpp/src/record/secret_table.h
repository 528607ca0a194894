// The keys that are known by how they begin: entity, prefix, and what must follow.
//
// Thread rule: constants. Units: characters.
#pragma once

#include <cstdint>
#include <string_view>

namespace spanbox {

// What the characters after a prefix are.
enum class Tail : std::uint8_t {
  kWord,    // letters, digits, '-', '_'
  kAlnum,   // letters, digits
  kHex,     // digits, a-f
  kUpper,   // digits, A-Z
  kDotted,  // kWord and '.'
  kBase64,  // letters, digits, '+', '/', '='
};

// What else must hold of them: words joined by dashes are no key.
enum class Check : std::uint8_t {
  kNone,
  kMixed,  // a digit and a letter at least
};

struct SecretPrefix {
  std::string_view entity;
  std::string_view prefix;
  Tail tail;
  std::uint16_t min;
  std::uint16_t max;  // 0: any length; else a longer tail is something else
  Check check = Check::kMixed;
};

// Longer prefixes stand before shorter ones that begin the same.
inline constexpr SecretPrefix kSecretPrefixes[] = {
    // model providers and their tools
    {"anthropic_key", "sk-ant-", Tail::kWord, 20, 0},
    {"openrouter_key", "sk-or-", Tail::kWord, 20, 0},
    {"langfuse_key", "sk-lf-", Tail::kWord, 20, 0},
    {"openai_key", "sk-proj-", Tail::kWord, 20, 0},
    {"openai_key", "sk-svcacct-", Tail::kWord, 20, 0},
    {"openai_key", "sk-admin-", Tail::kWord, 20, 0},
    {"openai_key", "sk-", Tail::kWord, 20, 0},
    {"openai_session", "sess-", Tail::kAlnum, 32, 0},
    {"huggingface_token", "hf_", Tail::kAlnum, 30, 0},
    {"huggingface_token", "api_org_", Tail::kAlnum, 30, 0},
    {"groq_key", "gsk_", Tail::kAlnum, 40, 0},
    {"xai_key", "xai-", Tail::kAlnum, 60, 0},
    {"replicate_token", "r8_", Tail::kAlnum, 30, 0},
    {"perplexity_key", "pplx-", Tail::kAlnum, 32, 0},
    {"nvidia_key", "nvapi-", Tail::kWord, 40, 0},
    {"fireworks_key", "fw_", Tail::kAlnum, 20, 0},
    {"together_key", "tgp_v1_", Tail::kWord, 30, 0},
    {"cerebras_key", "csk-", Tail::kAlnum, 32, 0},
    {"anyscale_key", "esecret_", Tail::kAlnum, 20, 0},
    {"elevenlabs_key", "sk_", Tail::kHex, 48, 48},
    {"pinecone_key", "pcsk_", Tail::kWord, 40, 0},
    {"voyage_key", "pa-", Tail::kWord, 40, 0},
    {"jina_key", "jina_", Tail::kWord, 40, 0},
    {"llamacloud_key", "llx-", Tail::kAlnum, 30, 0},
    {"tavily_key", "tvly-", Tail::kWord, 20, 0},
    {"firecrawl_key", "fc-", Tail::kHex, 32, 32},
    {"e2b_key", "e2b_", Tail::kHex, 32, 0},
    {"langsmith_key", "lsv2_pt_", Tail::kWord, 32, 0},
    {"langsmith_key", "lsv2_sk_", Tail::kWord, 32, 0},
    {"langsmith_key", "ls__", Tail::kHex, 32, 0},
    // clouds and platforms
    {"aws_key", "AKIA", Tail::kUpper, 16, 16},
    {"aws_key", "ASIA", Tail::kUpper, 16, 16},
    {"aws_key", "ABIA", Tail::kUpper, 16, 16},
    {"aws_key", "ACCA", Tail::kUpper, 16, 16},
    {"aws_bedrock_key", "ABSK", Tail::kBase64, 100, 0},
    {"google_key", "AIza", Tail::kWord, 35, 39},
    {"google_oauth_secret", "GOCSPX-", Tail::kWord, 24, 0},
    {"digitalocean_token", "dop_v1_", Tail::kHex, 64, 0},
    {"digitalocean_token", "doo_v1_", Tail::kHex, 64, 0},
    {"digitalocean_token", "dor_v1_", Tail::kHex, 64, 0},
    {"alibaba_key", "LTAI", Tail::kAlnum, 16, 24},
    {"databricks_token", "dapi", Tail::kHex, 32, 32},
    {"heroku_key", "HRKU-", Tail::kWord, 32, 0},
    {"netlify_token", "nfp_", Tail::kAlnum, 36, 0},
    {"fly_token", "fm2_", Tail::kBase64, 40, 0},
    {"fly_token", "fo1_", Tail::kWord, 40, 0},
    {"render_key", "rnd_", Tail::kAlnum, 24, 0},
    {"supabase_key", "sbp_", Tail::kHex, 40, 0},
    {"supabase_key", "sb_secret_", Tail::kWord, 20, 0},
    {"neon_key", "napi_", Tail::kAlnum, 40, 0},
    {"planetscale_token", "pscale_tkn_", Tail::kDotted, 32, 0},
    {"planetscale_token", "pscale_oauth_", Tail::kDotted, 32, 0},
    {"planetscale_password", "pscale_pw_", Tail::kDotted, 32, 0},
    {"tailscale_key", "tskey-", Tail::kWord, 16, 0},
    {"pulumi_token", "pul-", Tail::kHex, 40, 40},
    {"prefect_key", "pnu_", Tail::kAlnum, 36, 0},
    {"onepassword_token", "ops_eyJ", Tail::kWord, 60, 0},
    {"age_key", "AGE-SECRET-KEY-1", Tail::kUpper, 58, 58, Check::kNone},
    // code and packages
    {"github_token", "github_pat_", Tail::kWord, 50, 0},
    {"github_token", "ghp_", Tail::kAlnum, 30, 0},
    {"github_token", "gho_", Tail::kAlnum, 30, 0},
    {"github_token", "ghu_", Tail::kAlnum, 30, 0},
    {"github_token", "ghs_", Tail::kAlnum, 30, 0},
    {"github_token", "ghr_", Tail::kAlnum, 30, 0},
    {"gitlab_token", "glpat-", Tail::kDotted, 20, 0},
    {"gitlab_token", "gldt-", Tail::kWord, 20, 0},
    {"gitlab_token", "glrt-", Tail::kWord, 20, 0},
    {"gitlab_token", "glptt-", Tail::kWord, 20, 0},
    {"gitlab_token", "glcbt-", Tail::kWord, 20, 0},
    {"gitlab_token", "glsoat-", Tail::kWord, 20, 0},
    {"npm_token", "npm_", Tail::kAlnum, 36, 0},
    {"pypi_token", "pypi-AgEI", Tail::kWord, 50, 0},
    {"rubygems_key", "rubygems_", Tail::kHex, 48, 0},
    {"clojars_token", "CLOJARS_", Tail::kAlnum, 60, 0},
    {"docker_token", "dckr_pat_", Tail::kWord, 24, 0},
    {"docker_token", "dckr_oat_", Tail::kWord, 24, 0},
    {"circleci_token", "CCIPAT_", Tail::kWord, 40, 0},
    {"buildkite_token", "bkua_", Tail::kHex, 40, 0},
    {"jfrog_key", "AKCp", Tail::kAlnum, 60, 0},
    {"postman_key", "PMAK-", Tail::kWord, 50, 0},
    {"readme_key", "rdme_", Tail::kAlnum, 60, 0},
    // money
    {"stripe_key", "sk_live_", Tail::kAlnum, 16, 0},
    {"stripe_key", "rk_live_", Tail::kAlnum, 16, 0},
    {"stripe_key", "sk_test_", Tail::kAlnum, 16, 0},
    {"stripe_key", "rk_test_", Tail::kAlnum, 16, 0},
    {"stripe_webhook_secret", "whsec_", Tail::kBase64, 24, 0},
    {"square_token", "sq0atp-", Tail::kWord, 22, 0},
    {"square_secret", "sq0csp-", Tail::kWord, 40, 0},
    {"shopify_token", "shpat_", Tail::kHex, 32, 0},
    {"shopify_token", "shpca_", Tail::kHex, 32, 0},
    {"shopify_token", "shppa_", Tail::kHex, 32, 0},
    {"shopify_token", "shpss_", Tail::kHex, 32, 0},
    {"flutterwave_key", "FLWSECK", Tail::kWord, 20, 0},
    {"razorpay_key", "rzp_live_", Tail::kAlnum, 14, 0},
    {"plaid_token", "access-sandbox-", Tail::kWord, 36, 36},
    {"plaid_token", "access-development-", Tail::kWord, 36, 36},
    {"plaid_token", "access-production-", Tail::kWord, 36, 36},
    {"shippo_token", "shippo_live_", Tail::kHex, 40, 0},
    // messages, work and monitoring
    {"slack_token", "xoxb-", Tail::kWord, 20, 0},
    {"slack_token", "xoxp-", Tail::kWord, 20, 0},
    {"slack_token", "xoxa-", Tail::kWord, 20, 0},
    {"slack_token", "xoxr-", Tail::kWord, 20, 0},
    {"slack_token", "xoxs-", Tail::kWord, 20, 0},
    {"slack_token", "xoxe-", Tail::kWord, 20, 0},
    {"slack_token", "xoxc-", Tail::kWord, 20, 0},
    {"slack_token", "xoxd-", Tail::kWord, 20, 0},
    {"slack_token", "xapp-", Tail::kWord, 20, 0},
    {"twilio_key", "SK", Tail::kHex, 32, 32},
    {"mailgun_key", "key-", Tail::kHex, 32, 32},
    {"brevo_key", "xkeysib-", Tail::kWord, 60, 0},
    {"notion_token", "ntn_", Tail::kAlnum, 40, 0},
    {"notion_token", "secret_", Tail::kAlnum, 43, 43},
    {"linear_key", "lin_api_", Tail::kAlnum, 32, 0},
    {"figma_token", "figd_", Tail::kWord, 36, 0},
    {"airtable_token", "pat", Tail::kDotted, 79, 79},
    {"atlassian_token", "ATATT3", Tail::kBase64, 100, 0},
    {"hubspot_token", "pat-na1-", Tail::kWord, 36, 36},
    {"hubspot_token", "pat-eu1-", Tail::kWord, 36, 36},
    {"contentful_token", "CFPAT-", Tail::kWord, 43, 0},
    {"typeform_token", "tfp_", Tail::kWord, 40, 0},
    {"facebook_token", "EAA", Tail::kAlnum, 80, 0},
    {"grafana_token", "glsa_", Tail::kWord, 40, 0},
    {"grafana_token", "glc_", Tail::kBase64, 40, 0},
    {"newrelic_key", "NRAK-", Tail::kUpper, 27, 27},
    {"newrelic_key", "NRII-", Tail::kWord, 32, 0},
    {"sentry_token", "sntrys_", Tail::kBase64, 60, 0},
    {"sentry_token", "sntryu_", Tail::kHex, 60, 0},
};

// Keys whose first part is short and ends in a dot; the long part after it is what is noticed.
inline constexpr SecretPrefix kDottedPrefixes[] = {
    {"sendgrid_key", "SG.", Tail::kDotted, 40, 0},        {"vault_token", "hvs.", Tail::kWord, 20, 0},
    {"vault_token", "hvb.", Tail::kWord, 20, 0},          {"vault_token", "hvr.", Tail::kWord, 20, 0},
    {"google_oauth_token", "ya29.", Tail::kWord, 20, 0},  {"doppler_token", "dp.pt.", Tail::kAlnum, 40, 0},
    {"doppler_token", "dp.st.", Tail::kDotted, 40, 0},    {"dynatrace_token", "dt0c01.", Tail::kDotted, 60, 0},
    {"dropbox_token", "sl.", Tail::kWord, 60, 0},         {"dropbox_token", "sl.u.", Tail::kWord, 60, 0},
    {"terraform_token", ".atlasv1.", Tail::kWord, 60, 0},
};

}  // namespace spanbox
