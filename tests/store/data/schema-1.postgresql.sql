CREATE FUNCTION public.hanse_append_only() RETURNS trigger
    LANGUAGE plpgsql
    AS $$BEGIN RAISE EXCEPTION 'events are append-only'; END$$;
CREATE TABLE public.accounts (
    id character varying(64) NOT NULL,
    name character varying(200) NOT NULL,
    role character varying(20) NOT NULL,
    token_digest character varying(64) NOT NULL,
    created double precision NOT NULL,
    disabled_at double precision
);
CREATE TABLE public.checkpoints (
    run character varying(64) NOT NULL,
    step integer NOT NULL,
    "time" double precision NOT NULL,
    sha character varying(64),
    inline bytea
);
CREATE TABLE public.consents (
    run character varying(64) NOT NULL,
    node character varying(64) NOT NULL,
    decision character varying(10) NOT NULL,
    hash character varying(128) NOT NULL,
    actor character varying(200) NOT NULL,
    via character varying(20) NOT NULL,
    reason text NOT NULL,
    "time" double precision NOT NULL
);
CREATE TABLE public.events (
    id bigint NOT NULL,
    "time" double precision NOT NULL,
    run character varying(64),
    node character varying(64),
    kind character varying(64) NOT NULL,
    actor character varying(200) NOT NULL,
    detail json NOT NULL
);
CREATE SEQUENCE public.events_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.events_id_seq OWNED BY public.events.id;
CREATE TABLE public.join_tokens (
    id character varying(64) NOT NULL,
    digest character varying(64) NOT NULL,
    node character varying(64),
    owner character varying(64),
    created double precision NOT NULL,
    created_by character varying(200) NOT NULL,
    expires double precision NOT NULL,
    used_at double precision,
    used_by character varying(64)
);
CREATE TABLE public.model_versions (
    run character varying(64) NOT NULL,
    version integer NOT NULL,
    round integer,
    sha character varying(64) NOT NULL,
    nbytes bigint NOT NULL,
    metrics json NOT NULL,
    created double precision NOT NULL
);
CREATE TABLE public.nodes (
    id character varying(64) NOT NULL,
    status character varying(20) NOT NULL,
    serial character varying(80) NOT NULL,
    fingerprint character varying(128) NOT NULL,
    registered_at double precision NOT NULL,
    last_heartbeat double precision,
    address text NOT NULL,
    capabilities json NOT NULL,
    summary json NOT NULL,
    datasets json NOT NULL,
    consent_mode character varying(20) NOT NULL,
    updated double precision NOT NULL
);
CREATE TABLE public.owners (
    node character varying(64) NOT NULL,
    account character varying(64) NOT NULL
);
CREATE TABLE public.rounds (
    run character varying(64) NOT NULL,
    step integer NOT NULL,
    label character varying(64) NOT NULL,
    round integer,
    started double precision NOT NULL,
    ended double precision NOT NULL,
    status character varying(10) NOT NULL,
    record json NOT NULL
);
CREATE TABLE public.runs (
    id character varying(64) NOT NULL,
    state character varying(20) NOT NULL,
    config json NOT NULL,
    bundle_hash character varying(128) NOT NULL,
    bundle json NOT NULL,
    nodes json NOT NULL,
    proposer character varying(200) NOT NULL,
    seed bigint NOT NULL,
    created double precision NOT NULL,
    started double precision,
    ended double precision,
    expires double precision,
    reason text NOT NULL,
    result character varying(64),
    step integer,
    round integer,
    updated double precision NOT NULL
);
CREATE TABLE public.schema_version (
    version integer NOT NULL
);
CREATE SEQUENCE public.schema_version_version_seq
    AS integer
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.schema_version_version_seq OWNED BY public.schema_version.version;
ALTER TABLE ONLY public.events ALTER COLUMN id SET DEFAULT nextval('public.events_id_seq'::regclass);
ALTER TABLE ONLY public.schema_version ALTER COLUMN version SET DEFAULT nextval('public.schema_version_version_seq'::regclass);
INSERT INTO public.accounts VALUES ('acc-5555c4140dd3', 'ada', 'data_scientist', 'bbfa3cc6a8ab36bab90bb477aa6dbe266f325a21ec65d3b81549fa46023a45c7', 1795918355.2759018, NULL);
INSERT INTO public.accounts VALUES ('acc-a2e13e4fc194', 'olga', 'data_owner', '1bd8aee35426786c9e5f58fec3fd27386698fa41a45f88e03a7efd47285be67d', 1795918355.2890172, NULL);
INSERT INTO public.checkpoints VALUES ('run-running', 0, 1795918355.5063457, NULL, '\x70000000000000007b225f5f6d657461646174615f5f223a7b2268616e7365223a2231222c2264617461223a227b5c22737465705c223a307d227d2c2277223a7b226474797065223a22463634222c227368617065223a5b335d2c22646174615f6f666673657473223a5b302c32345d7d7d202020202020000000000000000000000000000000000000000000000000');
INSERT INTO public.checkpoints VALUES ('run-running', 1, 1795918355.5100715, NULL, '\x70000000000000007b225f5f6d657461646174615f5f223a7b2268616e7365223a2231222c2264617461223a227b5c22737465705c223a317d227d2c2277223a7b226474797065223a22463634222c227368617065223a5b335d2c22646174615f6f666673657473223a5b302c32345d7d7d202020202020000000000000f03f000000000000f03f000000000000f03f');
INSERT INTO public.consents VALUES ('run-completed', 'north', 'accept', 'hhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhh', 'olga', 'node', '', 1795918355.3741882);
INSERT INTO public.consents VALUES ('run-completed', 'south', 'accept', 'hhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhh', 'olga', 'node', '', 1795918355.3868656);
INSERT INTO public.consents VALUES ('run-running', 'north', 'accept', 'hhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhh', 'olga', 'node', '', 1795918355.4865346);
INSERT INTO public.consents VALUES ('run-running', 'south', 'accept', 'hhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhh', 'olga', 'node', '', 1795918355.494558);
INSERT INTO public.consents VALUES ('run-failed', 'north', 'accept', 'hhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhh', 'olga', 'node', '', 1795918355.5464616);
INSERT INTO public.consents VALUES ('run-failed', 'south', 'accept', 'hhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhh', 'olga', 'node', '', 1795918355.553054);
INSERT INTO public.events VALUES (1, 1795918355.2834191, NULL, NULL, 'account.created', 'system', '{"account":"acc-5555c4140dd3","name":"ada","role":"data_scientist"}');
INSERT INTO public.events VALUES (2, 1795918355.296948, NULL, NULL, 'account.created', 'system', '{"account":"acc-a2e13e4fc194","name":"olga","role":"data_owner"}');
INSERT INTO public.events VALUES (3, 1795918355.3024545, NULL, 'north', 'join_token.created', 'operator', '{"id":"join-a10157252f8d"}');
INSERT INTO public.events VALUES (4, 1795918355.3151617, NULL, 'north', 'node.enrolled', 'token join-a10157252f8d', '{"serial":"1north"}');
INSERT INTO public.events VALUES (5, 1795918355.3268666, NULL, 'north', 'node.described', 'north', '{"changed":["capabilities","datasets"]}');
INSERT INTO public.events VALUES (6, 1795918355.3341734, NULL, 'south', 'join_token.created', 'operator', '{"id":"join-e294c6997578"}');
INSERT INTO public.events VALUES (7, 1795918355.3456993, NULL, 'south', 'node.enrolled', 'token join-e294c6997578', '{"serial":"1south"}');
INSERT INTO public.events VALUES (8, 1795918355.348954, NULL, 'south', 'node.described', 'south', '{"changed":["capabilities","datasets"]}');
INSERT INTO public.events VALUES (9, 1795918355.3550165, 'run-completed', NULL, 'run.created', 'ada', '{"state":"pending"}');
INSERT INTO public.events VALUES (10, 1795918355.367737, 'run-completed', NULL, 'run.state', 'ada', '{"from":"pending","to":"awaiting_consent","reason":""}');
INSERT INTO public.events VALUES (11, 1795918355.3809507, 'run-completed', 'north', 'consent', 'olga', '{"decision":"accept","before":null,"hash":"hhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhh","via":"node","reason":""}');
INSERT INTO public.events VALUES (12, 1795918355.3872468, 'run-completed', 'south', 'consent', 'olga', '{"decision":"accept","before":null,"hash":"hhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhh","via":"node","reason":""}');
INSERT INTO public.events VALUES (13, 1795918355.3973312, 'run-completed', NULL, 'run.state', 'hanse', '{"from":"awaiting_consent","to":"running","reason":"all nodes accepted"}');
INSERT INTO public.events VALUES (14, 1795918355.4094727, 'run-completed', NULL, 'round', '', '{"step":0,"label":"train","round":1,"status":"ok","seconds":5.7220458984375e-06,"participants":[],"failures":{},"metrics":{"loss":1.0}}');
INSERT INTO public.events VALUES (15, 1795918355.4150856, 'run-completed', NULL, 'round', '', '{"step":1,"label":"train","round":2,"status":"ok","seconds":6.67572021484375e-06,"participants":[],"failures":{},"metrics":{"loss":0.5}}');
INSERT INTO public.events VALUES (16, 1795918355.422312, 'run-completed', NULL, 'round', '', '{"step":2,"label":"train","round":3,"status":"ok","seconds":6.198883056640625e-06,"participants":[],"failures":{},"metrics":{"loss":0.3333333333333333}}');
INSERT INTO public.events VALUES (17, 1795918355.44093, 'run-completed', NULL, 'model', '', '{"version":1,"round":3,"sha":"efd7b6dcd2e5753d6e8dc8d1510612f9d12267ff0db1a5b0b8d10b9ed8681a0e"}');
INSERT INTO public.events VALUES (18, 1795918355.447106, 'run-completed', NULL, 'run.state', 'coordinator', '{"from":"running","to":"completed","reason":""}');
INSERT INTO public.events VALUES (19, 1795918355.4581525, 'run-running', NULL, 'run.created', 'ada', '{"state":"pending"}');
INSERT INTO public.events VALUES (20, 1795918355.4707382, 'run-running', NULL, 'run.state', 'ada', '{"from":"pending","to":"awaiting_consent","reason":""}');
INSERT INTO public.events VALUES (21, 1795918355.4869304, 'run-running', 'north', 'consent', 'olga', '{"decision":"accept","before":null,"hash":"hhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhh","via":"node","reason":""}');
INSERT INTO public.events VALUES (22, 1795918355.4949026, 'run-running', 'south', 'consent', 'olga', '{"decision":"accept","before":null,"hash":"hhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhh","via":"node","reason":""}');
INSERT INTO public.events VALUES (23, 1795918355.5009003, 'run-running', NULL, 'run.state', 'hanse', '{"from":"awaiting_consent","to":"running","reason":"all nodes accepted"}');
INSERT INTO public.events VALUES (24, 1795918355.5068178, 'run-running', NULL, 'round', '', '{"step":0,"label":"train","round":1,"status":"ok","seconds":4.76837158203125e-06,"participants":[],"failures":{},"metrics":{"loss":1.0}}');
INSERT INTO public.events VALUES (25, 1795918355.5130463, 'run-running', NULL, 'round', '', '{"step":1,"label":"train","round":2,"status":"ok","seconds":3.5762786865234375e-06,"participants":[],"failures":{},"metrics":{"loss":0.5}}');
INSERT INTO public.events VALUES (26, 1795918355.5152552, 'run-waiting', NULL, 'run.created', 'ada', '{"state":"pending"}');
INSERT INTO public.events VALUES (27, 1795918355.5257263, 'run-waiting', NULL, 'run.state', 'ada', '{"from":"pending","to":"awaiting_consent","reason":""}');
INSERT INTO public.events VALUES (28, 1795918355.530206, 'run-failed', NULL, 'run.created', 'ada', '{"state":"pending"}');
INSERT INTO public.events VALUES (29, 1795918355.5393858, 'run-failed', NULL, 'run.state', 'ada', '{"from":"pending","to":"awaiting_consent","reason":""}');
INSERT INTO public.events VALUES (30, 1795918355.546859, 'run-failed', 'north', 'consent', 'olga', '{"decision":"accept","before":null,"hash":"hhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhh","via":"node","reason":""}');
INSERT INTO public.events VALUES (31, 1795918355.5535152, 'run-failed', 'south', 'consent', 'olga', '{"decision":"accept","before":null,"hash":"hhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhh","via":"node","reason":""}');
INSERT INTO public.events VALUES (32, 1795918355.5591002, 'run-failed', NULL, 'run.state', 'hanse', '{"from":"awaiting_consent","to":"running","reason":"all nodes accepted"}');
INSERT INTO public.events VALUES (33, 1795918355.5667927, 'run-failed', NULL, 'run.state', 'coordinator', '{"from":"running","to":"failed","reason":"too few nodes"}');
INSERT INTO public.join_tokens VALUES ('join-a10157252f8d', '417279505c970029e9fe2e39b76b247aea22c2c18960bd305f032aaad31fdd0d', 'north', NULL, 1795918355.3009977, 'operator', 1796004755.3009977, 1795918355.3063517, 'north');
INSERT INTO public.join_tokens VALUES ('join-e294c6997578', '48a24aaceb4c3d4dfd861f75df10f8bba8a03617b2900cef2d4dfc38438699e9', 'south', NULL, 1795918355.333101, 'operator', 1796004755.333101, 1795918355.338013, 'south');
INSERT INTO public.model_versions VALUES ('run-completed', 1, 3, 'efd7b6dcd2e5753d6e8dc8d1510612f9d12267ff0db1a5b0b8d10b9ed8681a0e', 128, '{"accuracy":0.75}', 1795918355.4368384);
INSERT INTO public.nodes VALUES ('north', 'enrolled', '1north', 'ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffnort', 1795918355.3139653, 1795918355.3250146, '10.0.0.1', '{"hanse":"0.1.0"}', '{}', '[{"name":"patients","version":"ab","columns":{"age":"float"},"rows":40}]', 'ask', 1795918355.325683);
INSERT INTO public.nodes VALUES ('south', 'enrolled', '1south', 'ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffsout', 1795918355.3450055, 1795918355.348052, '10.0.0.1', '{"hanse":"0.1.0"}', '{}', '[{"name":"patients","version":"ab","columns":{"age":"float"},"rows":40}]', 'ask', 1795918355.3483803);
INSERT INTO public.owners VALUES ('north', 'acc-a2e13e4fc194');
INSERT INTO public.rounds VALUES ('run-completed', 0, 'train', 1, 1795918355.4010556, 1795918355.4010613, 'ok', '{"label":"train","round":1,"metrics":{"loss":1.0}}');
INSERT INTO public.rounds VALUES ('run-completed', 1, 'train', 2, 1795918355.4130623, 1795918355.413069, 'ok', '{"label":"train","round":2,"metrics":{"loss":0.5}}');
INSERT INTO public.rounds VALUES ('run-completed', 2, 'train', 3, 1795918355.4198642, 1795918355.4198704, 'ok', '{"label":"train","round":3,"metrics":{"loss":0.3333333333333333}}');
INSERT INTO public.rounds VALUES ('run-running', 0, 'train', 1, 1795918355.5050054, 1795918355.5050101, 'ok', '{"label":"train","round":1,"metrics":{"loss":1.0}}');
INSERT INTO public.rounds VALUES ('run-running', 1, 'train', 2, 1795918355.5089726, 1795918355.5089762, 'ok', '{"label":"train","round":2,"metrics":{"loss":0.5}}');
INSERT INTO public.runs VALUES ('run-completed', 'completed', '{"rounds":3,"model_name":"logistic_regression"}', 'hhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhh', '{"gathering":"plain","datasets":{}}', '["north","south"]', 'ada', 1, 1795918355.3502033, 1795918355.3949726, 1795918355.44615, NULL, '', 'efd7b6dcd2e5753d6e8dc8d1510612f9d12267ff0db1a5b0b8d10b9ed8681a0e', 2, 3, 1795918355.44615);
INSERT INTO public.runs VALUES ('run-running', 'running', '{"rounds":3,"model_name":"logistic_regression"}', 'hhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhh', '{"gathering":"plain","datasets":{}}', '["north","south"]', 'ada', 2, 1795918355.4569573, 1795918355.4987893, NULL, NULL, 'all nodes accepted', NULL, 1, 2, 1795918355.509864);
INSERT INTO public.runs VALUES ('run-waiting', 'awaiting_consent', '{"rounds":3,"model_name":"logistic_regression"}', 'hhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhh', '{"gathering":"plain","datasets":{}}', '["north","south"]', 'ada', 3, 1795918355.5140784, NULL, NULL, NULL, '', NULL, NULL, NULL, 1795918355.5250952);
INSERT INTO public.runs VALUES ('run-failed', 'failed', '{"rounds":3,"model_name":"logistic_regression"}', 'hhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhh', '{"gathering":"plain","datasets":{}}', '["north","south"]', 'ada', 4, 1795918355.5289845, 1795918355.5586116, 1795918355.565893, NULL, 'too few nodes', NULL, NULL, NULL, 1795918355.565893);
INSERT INTO public.schema_version VALUES (1);
SELECT pg_catalog.setval('public.events_id_seq', 33, true);
SELECT pg_catalog.setval('public.schema_version_version_seq', 1, false);
ALTER TABLE ONLY public.accounts
    ADD CONSTRAINT accounts_name_key UNIQUE (name);
ALTER TABLE ONLY public.accounts
    ADD CONSTRAINT accounts_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.accounts
    ADD CONSTRAINT accounts_token_digest_key UNIQUE (token_digest);
ALTER TABLE ONLY public.checkpoints
    ADD CONSTRAINT checkpoints_pkey PRIMARY KEY (run, step);
ALTER TABLE ONLY public.consents
    ADD CONSTRAINT consents_pkey PRIMARY KEY (run, node);
ALTER TABLE ONLY public.events
    ADD CONSTRAINT events_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.join_tokens
    ADD CONSTRAINT join_tokens_digest_key UNIQUE (digest);
ALTER TABLE ONLY public.join_tokens
    ADD CONSTRAINT join_tokens_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.model_versions
    ADD CONSTRAINT model_versions_pkey PRIMARY KEY (run, version);
ALTER TABLE ONLY public.model_versions
    ADD CONSTRAINT model_versions_run_round_sha_key UNIQUE (run, round, sha);
ALTER TABLE ONLY public.nodes
    ADD CONSTRAINT nodes_fingerprint_key UNIQUE (fingerprint);
ALTER TABLE ONLY public.nodes
    ADD CONSTRAINT nodes_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.owners
    ADD CONSTRAINT owners_pkey PRIMARY KEY (node);
ALTER TABLE ONLY public.rounds
    ADD CONSTRAINT rounds_pkey PRIMARY KEY (run, step);
ALTER TABLE ONLY public.runs
    ADD CONSTRAINT runs_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.schema_version
    ADD CONSTRAINT schema_version_pkey PRIMARY KEY (version);
CREATE INDEX events_of_run ON public.events USING btree (run, id);
CREATE INDEX ix_checkpoints_sha ON public.checkpoints USING btree (sha);
CREATE INDEX ix_model_versions_sha ON public.model_versions USING btree (sha);
CREATE INDEX ix_owners_account ON public.owners USING btree (account);
CREATE INDEX ix_runs_created ON public.runs USING btree (created);
CREATE INDEX ix_runs_state ON public.runs USING btree (state);
CREATE TRIGGER events_append_only BEFORE DELETE OR UPDATE ON public.events FOR EACH ROW EXECUTE FUNCTION public.hanse_append_only();
ALTER TABLE ONLY public.checkpoints
    ADD CONSTRAINT checkpoints_run_fkey FOREIGN KEY (run) REFERENCES public.runs(id);
ALTER TABLE ONLY public.consents
    ADD CONSTRAINT consents_run_fkey FOREIGN KEY (run) REFERENCES public.runs(id);
ALTER TABLE ONLY public.join_tokens
    ADD CONSTRAINT join_tokens_owner_fkey FOREIGN KEY (owner) REFERENCES public.accounts(id);
ALTER TABLE ONLY public.model_versions
    ADD CONSTRAINT model_versions_run_fkey FOREIGN KEY (run) REFERENCES public.runs(id);
ALTER TABLE ONLY public.owners
    ADD CONSTRAINT owners_account_fkey FOREIGN KEY (account) REFERENCES public.accounts(id);
ALTER TABLE ONLY public.rounds
    ADD CONSTRAINT rounds_run_fkey FOREIGN KEY (run) REFERENCES public.runs(id);
